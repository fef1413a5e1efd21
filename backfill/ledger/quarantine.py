"""Quarantine: rows that cannot be linked, by job, row key and reason; never by value.

A table without a key has an entry a reason, with the number of its rows, as it was counted when a run ended. What a
key's text means depends on its columns, which stand beside it: where a plan names others now, or the catalog has
others, undecided entries are forgotten, and a run notes those rows anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg2 import sql
from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from backfill.database.connection import execute
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.job_id import JobId
from backfill.ledger.tables import quarantine
from backfill.plan import Job, Plan

DUPLICATE_RESULT = "duplicate-result"  # under a unique index, another row has what this one would become
DUPLICATE = "duplicate-address"  # another row of the address table is the same address


@dataclass(frozen=True)
class Entry:
    """A quarantined row that nobody has decided on; several, by their number, where no column names a row."""

    job: JobId
    key: str
    key_columns: tuple[str, ...]
    reason: str
    rows: int
    noticed: datetime

    @property
    def name(self) -> str | None:
        """The row's key, where it has one."""
        return self.key if self.key_columns else None

    @property
    def shown(self) -> str:
        """The same for people, who have to know of several values which is which."""
        return self.key if len(self.key_columns) < 2 else f"{', '.join(self.key_columns)} = {self.key}"


def entries(connection: Connection, job: JobId | None = None) -> list[Entry]:
    """What waits for a decision, by job and key."""
    statement = (
        select(
            quarantine.c.job,
            quarantine.c.row_key,
            quarantine.c.key_columns,
            quarantine.c.reason,
            quarantine.c.rows,
            quarantine.c.noticed,
        )
        .where(quarantine.c.decision_id.is_(None))
        .order_by(quarantine.c.job, quarantine.c.reason, quarantine.c.row_key)
    )
    if job is not None:
        statement = statement.where(quarantine.c.job == job)
    return [
        Entry(job, key, tuple(columns), *rest) for job, key, columns, *rest in connection.execute(statement)
    ]


def counts(connection: Connection) -> dict[JobId, dict[str, int]]:
    """Undecided rows by job and reason."""
    statement = (
        select(quarantine.c.job, quarantine.c.reason, func.sum(quarantine.c.rows))
        .where(quarantine.c.decision_id.is_(None))
        .group_by(quarantine.c.job, quarantine.c.reason)
        .order_by(quarantine.c.job, quarantine.c.reason)
    )
    found: dict[JobId, dict[str, int]] = {}
    for job, reason, number in connection.execute(statement):
        found.setdefault(job, {})[reason] = int(number)
    return found


def keeps(plan: Plan, job: JobId, reason: str) -> bool:
    """Whether *plan* has decided about such rows: a text that is no address is kept, and nothing of it waits."""
    return reason != DUPLICATE_RESULT and any(
        one.identity == job and one.unreadable == "keep" for one in plan.in_place_jobs
    )


def waiting_and_kept(
    connection: Connection, plan: Plan
) -> tuple[dict[JobId, dict[str, int]], dict[JobId, dict[str, int]]]:
    """Undecided rows by job and reason: those that wait for somebody, and those that *plan* keeps as unreadable."""
    waiting: dict[JobId, dict[str, int]] = {}
    kept: dict[JobId, dict[str, int]] = {}
    for job, reasons in counts(connection).items():
        for reason, number in reasons.items():
            (kept if keeps(plan, job, reason) else waiting).setdefault(job, {})[reason] = number
    return waiting, kept


def decide(connection: Connection, job: JobId, keys: Sequence[str], decision_id: int) -> None:
    """Take those rows out of the waiting, under that decision."""
    connection.execute(
        update(quarantine)
        .where(
            quarantine.c.job == job,
            quarantine.c.row_key.in_(keys),
            quarantine.c.decision_id.is_(None),
        )
        .values(decision_id=decision_id)
    )


def recount(connection: Connection, job: JobId, reasons: Mapping[str, int]) -> None:
    """What waits of a table without a key, as it was found now; what no run has counted yet is left to the next one."""
    ours = (
        quarantine.c.job == job,
        quarantine.c.decision_id.is_(None),
        func.cardinality(quarantine.c.key_columns) == 0,
    )
    connection.execute(delete(quarantine).where(*ours, quarantine.c.reason.not_in(list(reasons))))
    for reason, number in reasons.items():
        connection.execute(update(quarantine).where(*ours, quarantine.c.reason == reason).values(rows=number))


def take_out(connection: Connection, job: JobId, reasons: Mapping[str, int]) -> None:
    """So many rows of a table without a key wait no more: somebody has decided about them, which is on record elsewhere."""
    left = counts(connection).get(job, {})
    recount(
        connection,
        job,
        {reason: rest for reason in left if (rest := left[reason] - reasons.get(reason, 0)) > 0},
    )


def forget_other_keys(connection: Connection, job: Job) -> None:
    """Drop undecided entries that name rows by other columns than the job does now: a run notes those rows anew."""
    columns = list(row_key(connection, job).columns)
    connection.execute(
        delete(quarantine).where(
            quarantine.c.job == job.identity,
            quarantine.c.decision_id.is_(None),
            quarantine.c.key_columns != columns,
        )
    )


def release_fixed(connection: Connection, schema: str, job: Job, unfinished: sql.Composable) -> int:
    """Drop undecided entries whose row (``event``) is gone or not *unfinished* any more; returns their number.

    Where rows have no name, nothing is dropped: their entries are counted anew when a run ends (``enter_counts``).
    """
    forget_other_keys(connection, job)
    key = row_key(connection, job)
    if not key.columns:
        return 0
    statement = sql.SQL("""
        delete from {quarantine} as entry
         where entry.job = %s and entry.decision_id is null
           and not exists (select from {table} as event where {named} and {unfinished})
    """).format(
        quarantine=sql.Identifier(schema, "quarantine"),
        table=table(job),
        named=key.names(connection, job, sql.SQL("entry.row_key")),
        unfinished=unfinished,
    )
    with execute(connection, statement, (job.identity,)) as cursor:
        return cursor.rowcount


def enter_counts(connection: Connection, job: Job, run_id: int, reasons: Mapping[str, int]) -> None:
    """What was counted of a table without a key, in place of what was counted before."""
    ours = (quarantine.c.job == job.identity, quarantine.c.decision_id.is_(None))
    connection.execute(delete(quarantine).where(*ours, quarantine.c.reason.not_in(list(reasons))))
    for reason, number in reasons.items():
        # All of it: what was decided of a row with a key of that name stays with its decision.
        values = {"rows": number, "run_id": run_id, "key_columns": [], "reason": reason}
        entry = insert(quarantine).values(job=job.identity, row_key=reason, **values)
        connection.execute(
            entry.on_conflict_do_update(
                index_elements=["job", "row_key"], set_=values | {"decision_id": None}
            )
        )
