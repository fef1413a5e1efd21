"""Shadow copies: which tables have a copy in the making, or an old table that waits to be dropped."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from backfill.ledger.tables import shadows
from backfill.plan import Job
from backfill.raw_column import Table


class Stage(StrEnum):
    """How far a copy has come."""

    COPYING = "copying"  # changes are captured; rows, indexes and keys on their way
    COMPARED = "compared"  # every row was equal; ready for the cut-over
    SWAPPED = "swapped"  # it bears the name; the old table waits for `backfill cutover --finish`


def of_table(connection: Connection, table: Table) -> Row[Any] | None:
    """The copy of that table, for whichever job."""
    statement = select(shadows).where(shadows.c.table_name == table.table_identity)
    return connection.execute(statement).one_or_none()


def shadow_of(connection: Connection, job: Job) -> Row[Any] | None:
    """The copy of its table that was made for that job."""
    entry = of_table(connection, job)
    return entry if entry is not None and entry.job == job.identity else None


def begin(connection: Connection, job: Job, run_id: int, fingerprint: str) -> None:
    """Enter a copy, in the transaction that makes it."""
    connection.execute(
        shadows.insert().values(
            table_name=job.table_identity,
            job=job.identity,
            run_id=run_id,
            stage=Stage.COPYING,
            fingerprint=fingerprint,
        )
    )


def compared(connection: Connection, table: Table, counts: Mapping[str, int]) -> None:
    """Note that the rows were equal, and what was counted."""
    connection.execute(
        update(shadows)
        .where(shadows.c.table_name == table.table_identity)
        .values(stage=Stage.COMPARED, counts=dict(counts))
    )


def swapped(connection: Connection, table: Table) -> None:
    """Note that the copy bears the name, in the transaction that gives it."""
    connection.execute(
        update(shadows)
        .where(shadows.c.table_name == table.table_identity)
        .values(stage=Stage.SWAPPED, swapped=func.clock_timestamp())
    )


def forget(connection: Connection, table: Table) -> None:
    """Remove the entry: abandoned, or finished."""
    connection.execute(shadows.delete().where(shadows.c.table_name == table.table_identity))


def waiting(connection: Connection) -> list[str]:
    """Tables whose copy does not serve yet."""
    statement = select(shadows.c.table_name).where(shadows.c.stage != Stage.SWAPPED)
    return list(connection.execute(statement.order_by(shadows.c.table_name)).scalars())
