"""Rewriting: what the values of a found column could become without an address table, and what each kind would cost.

Each kind is put before the same preflight as any plan; what is in its way, and what would have to be accepted, is told.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from backfill.database.preflight import raw_keys
from backfill.database.preflight.checks import inspect
from backfill.database.preflight.columns import TEXTUAL
from backfill.database.preflight.finding import Finding, Severity
from backfill.database.preflight.target import Purpose
from backfill.plan import IN_PLACE, InPlaceJob, IntoJob, Plan
from backfill.scan.columns import Column

INET = "inet"
SEVERITIES = (Severity.BLOCKS, Severity.CHANGES, Severity.NOTE)
NO_ADDRESS = {INET: "0.0.0.0"}  # noqa: S104  # a constant for a column without NULL; '' where it is text


@dataclass(frozen=True)
class Option:
    """One kind, for one column."""

    job: InPlaceJob | IntoJob
    blocking: tuple[Finding, ...]
    changes: tuple[Finding, ...]  # to be accepted by name
    notes: tuple[Finding, ...]

    @property
    def accept(self) -> tuple[str, ...]:
        """What would have to be accepted first."""
        return tuple(finding.name for finding in self.changes)


def takes(column: Column) -> bool:
    """Whether a column of that type and kind of table can be rewritten in place at all."""
    return column.kind == "r" and (column.type in TEXTUAL or column.type == INET)


def options(
    connection: Connection,
    column: Column,
    key: tuple[str, ...],
    not_null: bool,
    ledger_schema: str,
    accept: Sequence[str],
) -> tuple[Option, ...]:
    """Every kind, in the order in which they keep most. Reads the catalog."""
    found = []
    for kind in IN_PLACE:
        job = _job(column, key, kind, not_null)
        findings = _findings(connection, job, ledger_schema, accept)
        if any(finding.code == raw_keys.UNIQUE.code for finding in findings):
            job = job.model_copy(update={"on_duplicate": "refuse"})  # which deletes nothing
            findings = _findings(connection, job, ledger_schema, accept)
        found.append(_option(job, findings))
    return tuple(found)


def option(
    connection: Connection,
    job: IntoJob,
    ledger_schema: str,
    accept: Iterable[str],
    more: Iterable[Finding] = (),
) -> Option:
    """The same of one job that is made elsewhere. *more*: what is known of it besides."""
    return _option(job, [*more, *_findings(connection, job, ledger_schema, tuple(accept))])


def _option(job: InPlaceJob | IntoJob, findings: Sequence[Finding]) -> Option:
    return Option(job, *(tuple(_of(findings, severity)) for severity in SEVERITIES))


def _findings(
    connection: Connection, job: InPlaceJob | IntoJob, ledger_schema: str, accept: Sequence[str]
) -> list[Finding]:
    plan = Plan(name="scan", jobs=(job,), accept=tuple(accept))
    report = inspect(connection, plan, plan.jobs, ledger_schema, Purpose.PLAN, accept)
    return [*report.blocking, *report.unaccepted, *report.notes]


def chosen(found: Sequence[Option]) -> Option | None:
    """The kind that is proposed: the first that nothing blocks, those first that need nothing accepted."""
    possible = [one for one in found if not one.blocking]
    return min(possible, key=lambda one: bool(one.changes), default=None)


def _of(findings: Sequence[Finding], severity: Severity) -> Iterator[Finding]:
    return (finding for finding in findings if finding.severity is severity)


def _job(column: Column, key: tuple[str, ...], kind: str, not_null: bool) -> InPlaceJob:
    keys: dict[str, object] = {
        "table": column.table,
        "schema": column.schema,
        "key": key,
        "raw": column.name,
        "becomes": kind,
        "unreadable": "refuse",
    }
    if kind == "nothing":
        keys["then"] = "keep"
        if not_null:
            keys["constant"] = NO_ADDRESS.get(column.type, "")
    return InPlaceJob.model_validate(keys)
