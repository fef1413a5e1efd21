"""``backfill calibrate``: whether salt and formula are the live application's."""

import json

import click

from backfill import escaping
from backfill.cli import context as sessions
from backfill.cli import preflight
from backfill.cli.context import Session, weak_salt_option
from backfill.cli.dropped_columns import NOTHING_LEFT, gone
from backfill.database.preflight.target import Purpose
from backfill.errors import NoRun
from backfill.jobs.calibrate import Calibration, calibrate, require
from backfill.ledger import runs
from backfill.verify import confirmation


@click.command("calibrate")
@weak_salt_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def calibrate_command(context: click.Context, allow_weak_salt: bool, form: str) -> None:
    """Check salt and hash scheme against hashes that the live application stored. Changes nothing."""
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    preflight.require(session, preflight.parts_of(session, ()), Purpose.READ)
    if gone(session, (session.plan.addresses,)):
        click.echo(f"No address is left to calibrate with. {NOTHING_LEFT}")
        return
    found = calibrate(session.engine, session.plan.addresses, session.salt)
    if form == "json":
        click.echo(json.dumps({"pairs": found.pairs, "explained": dict(found.explained)}))
    else:
        _tell_calibration(session, found)
        _tell_whose(session, found)
    require(found, session.plan.hash.scheme, 0)


def _tell_calibration(session: Session, found: Calibration) -> None:
    if not found.pairs:
        click.echo(
            "No live hash is stored yet: nothing could be checked. Make sure that the salt is the live one."
        )
        return
    body = [
        [scheme, number, found.pairs, "configured" if scheme == session.plan.hash.scheme else ""]
        for scheme, number in found.explained.items()
    ]
    click.echo(escaping.table(body, ["scheme", "explains", "of", ""], tablefmt="simple", intfmt=","))


def _tell_whose(session: Session, found: Calibration) -> None:
    """After a run without confirmation the stored hashes may be ours, which prove nothing."""
    try:
        session.require_ledger()
    except NoRun:
        return
    scheme = session.plan.hash.scheme
    right = found.explained[scheme]
    with session.engine.begin() as connection:
        confirmed = runs.confirmed(connection, session.settings.key_id, scheme, right)
    if right and not confirmed:
        click.echo(
            "An earlier run of ours may have written these hashes: they confirm neither salt nor formula."
        )


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
