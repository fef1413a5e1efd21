"""Quarantine: rows that cannot be linked, by job, row key and reason; never by value."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg2 import sql
from sqlalchemy import Connection, func, select, update

from backfill.database.columns import ColumnType
from backfill.database.connection import execute
from backfill.database.quoting import table
from backfill.job_id import JobId
from backfill.ledger.tables import quarantine
from backfill.plan import Job, Plan

DUPLICATE = "duplicate-address"  # another row of the address table is the same address


@dataclass(frozen=True)
class Entry:
    """A quarantined row that nobody has decided on."""

    job: JobId
    key: str
    reason: str
    noticed: datetime


def entries(connection: Connection, job: JobId | None = None) -> list[Entry]:
    """What waits for a decision, by job and key."""
    statement = (
        select(quarantine.c.job, quarantine.c.row_key, quarantine.c.reason, quarantine.c.noticed)
        .where(quarantine.c.decision_id.is_(None))
        .order_by(quarantine.c.job, quarantine.c.reason, quarantine.c.row_key)
    )
    if job is not None:
        statement = statement.where(quarantine.c.job == job)
    return [Entry(*row) for row in connection.execute(statement)]


def counts(connection: Connection) -> dict[JobId, dict[str, int]]:
    """Undecided rows by job and reason."""
    statement = (
        select(quarantine.c.job, quarantine.c.reason, func.count())
        .where(quarantine.c.decision_id.is_(None))
        .group_by(quarantine.c.job, quarantine.c.reason)
        .order_by(quarantine.c.job, quarantine.c.reason)
    )
    found: dict[JobId, dict[str, int]] = {}
    for job, reason, number in connection.execute(statement):
        found.setdefault(job, {})[reason] = number
    return found


def keeping(plan: Plan) -> frozenset[JobId]:
    """Jobs whose plan keeps a text that is no address: it has decided, and nothing of theirs waits."""
    return frozenset(job.identity for job in plan.in_place_jobs if job.unreadable == "keep")


def waiting_and_kept(
    connection: Connection, plan: Plan
) -> tuple[dict[JobId, dict[str, int]], dict[JobId, dict[str, int]]]:
    """Undecided rows by job and reason: those that wait for somebody, and those that *plan* keeps as unreadable."""
    found, keeps = counts(connection), keeping(plan)
    return (
        {job: reasons for job, reasons in found.items() if job not in keeps},
        {job: reasons for job, reasons in found.items() if job in keeps},
    )


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


def release_fixed(
    connection: Connection, schema: str, job: Job, key: ColumnType, unfinished: sql.Composable
) -> int:
    """Drop undecided entries whose row (``event``) is gone or not *unfinished* any more; returns their number."""
    statement = sql.SQL("""
        delete from {quarantine} as entry
         where entry.job = %s and entry.decision_id is null
           and not exists (
               select from {table} as event
                where event.{key} {equals} entry.row_key::{key_type}
                  and {unfinished})
    """).format(
        quarantine=sql.Identifier(schema, "quarantine"),
        table=table(job),
        key=sql.Identifier(job.key),
        unfinished=unfinished,
        key_type=sql.SQL(key.name),
        equals=key.equals,
    )
    with execute(connection, statement, (job.identity,)) as cursor:
        return cursor.rowcount
