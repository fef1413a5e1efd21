"""``backfill calibrate``: whether salt and formula are the live application's."""

from collections.abc import Sequence

import click

from backfill import escaping
from backfill.cli import context as sessions
from backfill.cli import output, preflight
from backfill.cli.answer import JSON, Answer, answers
from backfill.cli.context import Session, weak_salt_option
from backfill.cli.dropped_columns import AFTER_ALL, NOTHING_LEFT, gone
from backfill.database.preflight.target import Purpose
from backfill.errors import BackfillError, NoRun
from backfill.jobs.calibrate import (
    Calibration,
    against,
    calibrate,
    calibrated,
    own_hashes,
    require,
    require_own_hashes,
)
from backfill.ledger import runs
from backfill.plan import IntoJob
from backfill.report.document import table
from backfill.verify import confirmation
from backfill.verify.confirmation import Confirmation


@click.command("calibrate")
@weak_salt_option
@answers
@click.pass_context
def calibrate_command(context: click.Context, allow_weak_salt: bool, form: str) -> Answer:
    """Check salt and hash scheme against hashes that the live application stored. Changes nothing."""
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    preflight.require(session, preflight.parts_of(session, ()), Purpose.READ)
    if gone(session, (session.plan.addresses,)):
        none = "No address is left to calibrate with."
        jobs = session.plan.jobs
        left = len(gone(session, jobs)) < len(jobs)
        return Answer(none, ("backfill run",)) if left else Answer(f"{none} {NOTHING_LEFT}", AFTER_ALL)
    found = calibrate(session.engine, session.plan.addresses, session.salt)
    scheme = session.plan.hash.scheme
    if found.pairs and form != JSON:
        _show(found, scheme)
    facts = {"scheme": scheme, "pairs": found.pairs, "explained": dict(found.explained)}
    try:
        require(found, scheme, 0)
    except BackfillError as error:
        if form != JSON:
            raise
        return Answer(str(error), facts=facts, code=error.exit_code)
    if not found.pairs:
        verdict = (
            "No live hash is stored yet: nothing could be checked. Make sure that the salt is the live one."
        )
    elif _may_be_ours(session, found):
        verdict = (
            "An earlier run of ours may have written these hashes: they confirm neither salt nor formula."
        )
    else:
        hashes = escaping.counted(found.pairs, "live hash", "live hashes")
        verdict = f"Calibrated: {scheme} explains {found.explained[scheme]:,} of {hashes}."
    return Answer(verdict, ("backfill run",), facts)


def _show(found: Calibration, configured: str) -> None:
    body = [
        [scheme, number, found.pairs, "configured" if scheme == configured else ""]
        for scheme, number in found.explained.items()
    ]
    output.show(table(["scheme", "hashes explained", "of", "note"], body))


def _may_be_ours(session: Session, found: Calibration) -> bool:
    """After a run without confirmation the stored hashes may be ours, which prove nothing."""
    if not _has_ledger(session):
        return False
    scheme = session.plan.hash.scheme
    right = found.explained[scheme]
    with session.engine.begin() as connection:
        confirmed = runs.confirmed(connection, session.settings.key_id, scheme, right)
    return bool(right) and not confirmed


def _has_ledger(session: Session) -> bool:
    try:
        session.require_ledger()
    except NoRun:
        return False
    return True


def tell_confirmation(session: Session, found: Calibration, mismatches: int, confirmed: int) -> None:
    """What the stored hashes say about salt and formula; our own say nothing."""
    scheme, right = session.plan.hash.scheme, found.pairs - mismatches
    if confirmed and found.pairs:
        click.echo(f"Calibrated: {scheme} explains {right:,} of {found.pairs:,} live hashes.")
        return
    if confirmed:
        return  # an earlier run was; the hashes are gone since
    why = (
        f"{scheme} explains {right:,} of {found.pairs:,} stored hashes, but an earlier run may have written them"
        if right
        else "no live hash that they explain is stored"
    )
    click.echo(
        f"Salt and formula are not confirmed: {why}. Make sure that the salt is the live application's. This is on "
        f"record: `backfill verify` and the report will say that hashes are "
        f"{confirmation.unconfirmed(session.settings.key_id)}."
    )


def calibrate_into(
    session: Session, jobs: Sequence[IntoJob], accept_mismatches: int, *, with_addresses: bool
) -> tuple[int, int]:
    """Salt and scheme are those of the hashes that stand beside raw values; returns how many agree, and how many that do
    not were accepted.

    *with_addresses*: the hashes of the address table are for the run to calibrate as well, and the number accepted is that
    of all. Raises ``CalibrationFailed``.
    """
    scheme, looked_at = session.plan.hash.scheme, []
    salt_of = Confirmation.of(session.plan, session.settings.key_id)
    has_ledger = _has_ledger(session)
    for job in jobs:
        found = own_hashes(session.engine, job, session.salt, scheme)
        confirmed = right = found.explained[scheme]
        if has_ledger:
            with session.engine.begin() as connection:
                confirmed = salt_of.of_job(connection, job, right)
        looked_at.append((job, found, confirmed))
    beside = asked = sum(against(found, scheme, confirmed) for _, found, confirmed in looked_at)
    if beside and with_addresses:
        known = calibrated(session.engine, session.plan.addresses, session.salt, scheme)
        asked += require(known, scheme, accept_mismatches, beside) if known.pairs else 0
    for job, found, confirmed in looked_at:
        require_own_hashes(job, found, scheme, confirmed, asked, accept_mismatches)
        if not confirmed:
            click.echo(
                f"{job.label}: salt and scheme are not confirmed: as far as the ledger can tell, no hash in {job.into} that "
                f"the application wrote itself agrees with them. Compare one with the application's own before the column is dropped."
            )
    return sum(found.explained[scheme] for _, found, _ in looked_at), beside
