"""Consent to rewriting values in place: a dry run, then a restore point and the exact number of rows, once a definition."""

from collections.abc import Sequence
from datetime import datetime

import click

from backfill import escaping
from backfill.cli import output, pseudonym_prefix
from backfill.cli.context import Session
from backfill.errors import (
    DuplicatesRefused,
    NoRun,
    RestorePointMissing,
    RewriteUnconfirmed,
    UnreadableRefused,
)
from backfill.job_id import JobId
from backfill.jobs import dry_run
from backfill.jobs.values import ValueResolver
from backfill.ledger import consents, dry_runs, prefixes
from backfill.ledger.consents import Consent
from backfill.ledger.dry_runs import DryRun
from backfill.ledger.run_lock import run_lock
from backfill.plan import InPlaceJob, Job
from backfill.report.document import table

OPTIONS = ("restore_point", "count")  # of ``backfill run``


def consent_options(command: click.decorators.FC) -> click.decorators.FC:
    """``--restore-point`` and ``--rewrite``."""
    for option in (
        click.option(
            "--rewrite",
            "count",
            type=click.IntRange(0),
            metavar="N",
            help="Number of rows that the dry run counted, as confirmation that values are rewritten in place.",
        ),
        click.option(
            "--restore-point",
            metavar="NAME",
            help="Name of the backup that you could go back to; overrides BACKFILL_RESTORE_POINT.",
        ),
    ):
        command = option(command)
    return command


def require(
    context: click.Context,
    session: Session,
    jobs: Sequence[Job],
    restore_point: str | None,
    count: int | None,
) -> None:
    """Return where every job in place of *jobs* has its consent on record, or gets it now.

    Else a dry run counts and says what to type. Writes nothing but the ledger, which has to be there. Raises
    ``RewriteUnconfirmed``, ``RestorePointMissing``, ``UnreadableRefused``, ``DuplicatesRefused``, ``RunInProgress``.
    """
    in_place = [job for job in jobs if isinstance(job, InPlaceJob)]
    if not in_place:
        return
    schema = session.settings.ledger_schema
    with run_lock(session.engine, schema):
        with session.engine.begin() as connection:
            asked = [
                job
                for job in in_place
                if not consents.given(connection, schema, job, _definition(session, job))
            ]
            known = {
                job.identity: dry_runs.newest(connection, job, _definition(session, job)) for job in asked
            }
        if not asked:
            return
        found = {job.identity: one for job in asked if (one := known[job.identity]) is not None}
        # Rows that were refused may have been corrected since.
        refused = any(
            _unreadable(job, found[job.identity]) or _collides(job, found[job.identity])
            for job in asked
            if job.identity in found
        )
        anew = count is None or len(found) < len(asked) or refused
        if anew:
            if any(job.becomes == "pseudonym" for job in asked):
                pseudonym_prefix.recognise(session)
            found = {job.identity: _count(session, job) for job in asked}
        _require_readable(asked, found)
        _require_distinct(asked, found)
        number = sum(one.rewrites for one in found.values())
        deletes = sum(found[job.identity].counts.duplicates for job in asked if job.deletes)
        also = (
            f", and {escaping.counted(deletes, 'row', 'rows')} to be deleted as duplicates" if deletes else ""
        )
        name = (restore_point or session.settings.restore_point or "").strip()
        if anew or count != number:
            given = "" if count is None else f", and --rewrite says {count:,}"
            if count is not None and anew:
                given += ", which no dry run of the last 24 hours counted"
            rows = escaping.counted(number, "row", "rows")
            raise RewriteUnconfirmed(rows=rows, given=also + given, command=_command(context, name, number))
        if not name:
            raise RestorePointMissing(command=_command(context, name, number))
        with session.engine.begin() as connection:
            for job in asked:
                one = found[job.identity]
                consent = Consent(
                    _definition(session, job),
                    session.settings.key_id,
                    session.plan.hash.scheme,
                    one.rewrites,
                    name,
                    one.id,
                    one.counts.duplicates if job.deletes else 0,
                )
                consents.record(connection, job, consent)
    click.echo(
        f"On record: {escaping.counted(number, 'row', 'rows')} of {', '.join(job.label for job in asked)} may be "
        f"rewritten in place{_deleted(asked, deletes)}, as well as those that come later; restore point {escaping.name(name)}."
    )


def tell(session: Session, jobs: Sequence[Job], words: Sequence[str]) -> None:
    """Say of each job in place: whether its consent is on record, or what will be asked; *words*: options a run needs."""
    try:
        session.require_ledger()
        known = True
    except NoRun:
        known = False
    for job in jobs:
        if not isinstance(job, InPlaceJob):
            continue
        run = ("backfill", "run", "--due") if job.after else ("backfill", "run")
        given, newest = False, None
        if known:
            with session.engine.begin() as connection:
                definition = _definition(session, job)
                given = consents.given(connection, session.settings.ledger_schema, job, definition)
                newest = None if given else dry_runs.newest(connection, job, definition)
        if given:
            click.echo(f"{job.label}: consent to this definition is on record.")
        elif newest is not None:
            command = escaping.command(
                *run, job.label, *words, "--restore-point", "NAME", "--rewrite", newest.rewrites
            )
            _show(job, newest)
            click.echo(f"To confirm it: `{command}`.")
        else:
            click.echo(
                f"{job.label} is rewritten in place: the first `{' '.join(run)}` counts its rows, changes nothing, and says "
                "what it needs from you."
            )


def _definition(session: Session, job: InPlaceJob) -> str:
    return session.plan.definition(job, session.settings.key_id)


def _deleted(jobs: Sequence[InPlaceJob], number: int) -> str:
    if not any(job.deletes for job in jobs):
        return ""
    return f", and duplicates deleted ({escaping.counted(number, 'row', 'rows')} now)"


STAND_IN = 1  # a prefix, where none is drawn: then no pseudonym can be in the data


def _values(session: Session, job: InPlaceJob) -> ValueResolver:
    """What the texts of *job* become, and those of other jobs of its table, which may have columns in the same index."""
    hash_address, pseudonyms = None, None
    kinds = {one.becomes for one in session.plan.in_place_jobs if one.table_identity == job.table_identity}
    if "hash" in kinds:
        hash_address = session.salt.hasher(session.plan.hash.scheme)
    if "pseudonym" in kinds:
        with session.engine.begin() as connection:
            prefix = prefixes.prefix_of(connection, session.settings.key_id)
        pseudonyms = session.salt.pseudonyms(STAND_IN if prefix is None else prefix)
    return ValueResolver(hash_address, pseudonyms)


def _count(session: Session, job: InPlaceJob) -> DryRun:
    resolver = None if job.on_duplicate is None else _values(session, job)
    counts = dry_run.count(session.engine, session.settings.ledger_schema, session.plan, job, resolver)
    with session.engine.begin() as connection:
        found = dry_runs.record(connection, job, _definition(session, job), counts)
    _show(job, found)
    return found


def _show(job: InPlaceJob, found: DryRun) -> None:
    """What was counted, without any value."""
    counts = found.counts
    fates = {"keep": "kept", "nothing": "removed", "refuse": "refused"}
    lines: list[list[object]] = [
        ["rows", counts.rows],
        ["NULL", counts.null],
        [f"already in the form of a {job.becomes}", counts.already],
        ["to be rewritten", found.rewrites],
        *([["not older than after", counts.not_due]] if job.after is not None else []),
        *(
            [f"no address ({reason}), {fates[job.unreadable]}", number]
            for reason, number in counts.unreadable.items()
        ),
        *(
            [
                [
                    f"equal to another row in a unique index, {'deleted' if job.deletes else 'refused'}",
                    counts.duplicates,
                ]
            ]
            if job.on_duplicate is not None
            else []
        ),
        ["distinct texts" + (" (at least)" if counts.more_texts else ""), counts.texts],
    ]
    click.echo()
    click.echo(f"Dry run of {job.label}, which becomes {job.becomes} in place. Nothing was changed.")
    output.show(table(["what", "number"], lines))
    if counts.oldest is not None:
        click.echo(f"{job.time_column} from {counts.oldest} to {counts.newest}.")
    click.echo()


def _unreadable(job: InPlaceJob, found: DryRun) -> bool:
    return job.unreadable == "refuse" and found.counts.no_address > 0


def _require_readable(jobs: Sequence[InPlaceJob], found: dict[JobId, DryRun]) -> None:
    for job in jobs:
        counts = found[job.identity].counts
        if _unreadable(job, found[job.identity]):
            reasons = ", ".join(f"{reason} {number:,}" for reason, number in counts.unreadable.items())
            raise UnreadableRefused(
                job=job.label,
                rows=escaping.counted(counts.no_address, "row holds", "rows hold"),
                reasons=reasons,
            )


def _collides(job: InPlaceJob, found: DryRun) -> bool:
    return job.on_duplicate == "refuse" and found.counts.duplicates > 0


def _require_distinct(jobs: Sequence[InPlaceJob], found: dict[JobId, DryRun]) -> None:
    for job in jobs:
        counts = found[job.identity].counts
        if _collides(job, found[job.identity]):
            raise DuplicatesRefused(
                job=job.label,
                rows=escaping.counted(counts.duplicates, "row", "rows"),
                keys=", ".join(escaping.name(key) for key in counts.unique_keys),
            )


def _command(context: click.Context, name: str | None, number: int) -> str:
    """The command that was typed, with what was missing."""
    words: list[object] = ["backfill", "run"]
    for parameter in context.command.params:
        given = context.params.get(parameter.name or "")
        source = context.get_parameter_source(parameter.name or "")
        if source is not click.core.ParameterSource.COMMANDLINE or parameter.name in OPTIONS:
            continue
        option = parameter.opts[0]
        if isinstance(parameter, click.Argument):
            words += given if isinstance(given, tuple) else [given]
        elif isinstance(given, bool):
            words.append(option)
        else:
            for one in given if isinstance(given, tuple) else (given,):
                words += [option, f"{one:.0f}s" if parameter.type.name == "duration" else _typed(one)]
    if not name:
        words += ["--restore-point", "NAME"]
    elif context.params.get("restore_point"):
        words += ["--restore-point", name]
    return escaping.command(*words, "--rewrite", number)


def _typed(given: object) -> object:
    """As it can be typed again."""
    if isinstance(given, datetime):
        return f"{given:%H:%M}"
    return f"{given:g}" if isinstance(given, float) else given
