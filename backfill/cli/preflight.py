"""What commands share of preflight: the option, what is accepted, and how findings are shown."""

import contextlib
import time
from collections.abc import Iterator, Sequence

import click
from psycopg2 import sql

from backfill import escaping
from backfill.cli.context import Session
from backfill.database.connection import value
from backfill.database.definition import DEFINITION
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.preflight import checks
from backfill.database.preflight.checks import LOOKED_AT, Report
from backfill.database.preflight.finding import Finding
from backfill.database.preflight.places import NEW_KEY
from backfill.database.preflight.target import Purpose
from backfill.database.preflight.triggers import BEFORE
from backfill.database.quoting import regclass
from backfill.job_id import JobId
from backfill.ledger import acceptances, consents
from backfill.ledger.runs import TableCount
from backfill.plan import InPlaceJob, IntoJob, Job, Plan
from backfill.raw_column import Table

FRESH_SECONDS = 10.0  # calibrating a demo takes less; a prompt for the salt, or a sample, may take minutes


def accept_option(command: click.decorators.FC) -> click.decorators.FC:
    """``--accept``."""
    return click.option(
        "--accept",
        multiple=True,
        metavar="CODE:SUBJECT",
        help="Accept a finding that `backfill plan` names. May be repeated; a run records it.",
    )(command)


def parts_of(session: Session, jobs: Sequence[Job]) -> tuple[Table, ...]:
    """The tables of *jobs*, and the address table, where one of them could need it."""
    alone = jobs and all(isinstance(job, InPlaceJob | IntoJob) for job in jobs)
    return (*(() if alone else session.plan.address_tables), *jobs)


def all_parts(session: Session) -> tuple[Table, ...]:
    """Every table of the plan."""
    return (*parts_of(session, session.plan.jobs), *session.plan.discard)


def inspect(session: Session, parts: Sequence[Table], purpose: Purpose, accept: Sequence[str] = ()) -> Report:
    """What is in the way; what a run put on record as accepted counts too."""
    schema = session.settings.ledger_schema
    with session.engine.connect() as connection:
        known = acceptances.recorded(connection, schema)
        if acceptances.began(connection, schema, session.fingerprint):
            # Its preflight saw the keys of live places. What it wrote may lack one, where no address has it.
            known += [f"{NEW_KEY.code}:{key.value}" for key in session.plan.geo.keys]
        rewritten = consents.rewritten(connection, schema, session.plan, session.settings.key_id)
        report = checks.inspect(connection, session.plan, parts, schema, purpose, accept, known, rewritten)
        connection.rollback()
    return report


def require(session: Session, parts: Sequence[Table], purpose: Purpose, accept: Sequence[str] = ()) -> Report:
    """Raises ``SchemaUnfit`` where something is in the way."""
    return checks.require(inspect(session, parts, purpose, accept))


class RunPreflight:
    """Preflight of a run: once before anything is done, and again whenever the driver asks later."""

    def __init__(
        self, session: Session, jobs: Sequence[Job], purpose: Purpose, accept: Sequence[str]
    ) -> None:
        """Look for the first time. Raises ``SchemaUnfit``."""
        self._session, self._jobs, self._purpose, self._accept = session, jobs, purpose, accept
        self._looked = time.monotonic()
        self._first: dict[JobId, str] | None = None
        # A table that is missing, or has a name that cannot be sent, is a finding.
        with contextlib.suppress(*DRIVER_ERRORS, UnicodeError):
            self._first = self._definitions()
        self.report = self._require()

    def definitions(self) -> dict[JobId, str]:
        """What the tables are, read before they were looked at. Raises ``SchemaUnfit`` where one is unfit.

        The first answer is that of the first look, while it is fresh: batches compare, so what was changed since then
        is found by the first of them, and looked at again.
        """
        first, self._first = self._first, None
        if first is not None and time.monotonic() - self._looked < FRESH_SECONDS:
            return first
        found = self._definitions()
        self._require()
        return found

    def _definitions(self) -> dict[JobId, str]:
        with self._session.engine.connect() as connection:
            return {
                job.identity: value(
                    connection, sql.SQL("select {}").format(DEFINITION.format(table=regclass(job)))
                )
                for job in self._jobs
            }

    def _require(self) -> Report:
        return require(self._session, parts_of(self._session, self._jobs), self._purpose, self._accept)


def record(session: Session, report: Report, accept: Sequence[str]) -> None:
    """Put what was accepted on record, for the commands and gates that follow; what only a drop asks for, too."""
    found = [*report.accepted]
    if accept:
        found += inspect(session, all_parts(session), Purpose.PLAN, accept).accepted
    with session.engine.begin() as connection:
        acceptances.record(connection, session.settings.ledger_schema, [finding.name for finding in found])


def kept(report: Report, counts: Sequence[TableCount], plan: Plan) -> Iterator[str]:
    """Rows that are not linked although they could be, where an accepted trigger may have kept them so."""
    for job in plan.jobs:
        left = sum(count.kept for count in counts if count.job == job.identity)
        place = f"{job.schema_}.{job.table}."
        triggers = [
            finding.subject.removeprefix(place)
            for finding in report.accepted
            if finding.code == BEFORE.code and finding.subject.startswith(place)
        ]
        if left and triggers:
            yield (
                f"{left:,} {'row' if left == 1 else 'rows'} of {job.label} could be linked and {'is' if left == 1 else 'are'} not: "
                f"trigger {', '.join(triggers)} may have kept {'it' if left == 1 else 'them'} as before. That is not left to the live application: "
                "look at the trigger, or disable it for a run."
            )


def as_text(report: Report) -> str:
    """All findings, the worst first."""
    parts = [
        _listed("In the way (blocks):", report.blocking),
        _listed("Will change, not accepted:", report.unaccepted, named=True),
        _listed("Will change, accepted:", report.accepted, named=True),
        _listed("Notes:", report.notes),
    ]
    if report.unaccepted:
        parts.append("To accept one that you have looked at: --accept CODE:SUBJECT, or `accept` in the plan.")
    if report.unknown:
        parts.append("Accepted, but nothing of that name was found: " + ", ".join(sorted(report.unknown)))
    return "\n\n".join(part for part in parts if part)


def _listed(title: str, findings: Sequence[Finding], *, named: bool = False) -> str:
    if not findings:
        return ""
    lines = [f"- {finding.name if named else finding.code}: {finding.text}" for finding in findings]
    return "\n".join([title, *lines])


def nothing_in_the_way(report: Report) -> str:
    """What was looked at, and no more."""
    return f"Nothing is in the way, as far as was looked at: {LOOKED_AT} of {report.tables} tables."


def in_the_way(report: Report, missing: int) -> str:
    """How much has to be changed or accepted first."""
    said = [
        escaping.counted(len(report.blocking), "finding blocks", "findings block"),
        escaping.counted(len(report.unaccepted), "finding has", "findings have") + " to be accepted",
        escaping.counted(missing, "thing is", "things are") + " missing",
    ]
    numbers = (len(report.blocking), len(report.unaccepted), missing)
    counted = ", ".join(line for line, number in zip(said, numbers, strict=True) if number)
    return f"In the way: {counted}. Change that, then type the same command again."


def as_facts(report: Report) -> list[dict[str, str]]:
    """The findings for machines."""
    states = {
        "blocks": report.blocking,
        "not accepted": report.unaccepted,
        "accepted": report.accepted,
        "note": report.notes,
    }
    return [
        {"code": one.code, "subject": one.subject, "state": state, "problem": one.problem, "fix": one.fix}
        for state, findings in states.items()
        for one in findings
    ]


def then_run(
    report: Report,
    jobs: Sequence[str],
    accept: Sequence[str],
    allow_weak_salt: bool,
    *,
    calibrates: bool,
    due: bool = False,
) -> tuple[str, ...]:
    """The commands after ``plan``, with the words that it was given: without them a run would be refused.

    *calibrates*: there are stored hashes to calibrate with. *due*: every job has an age, and so the run is the timer's.
    """
    weak = ["--allow-weak-salt"] if allow_weak_salt else []
    found = {finding.name for finding in report.accepted}
    accepted = [word for name in accept if name in found for word in ("--accept", name)]
    run = escaping.command("backfill", "run", *(["--due"] if due else []), *jobs, *accepted, *weak)
    if not calibrates:
        return (run,)
    return escaping.command("backfill", "calibrate", *weak), run
