"""Shadows: which tables have a copy in the making, or an old table that waits to be dropped."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from backfill.ledger.tables import shadows


class Stage(StrEnum):
    """How far a copy has come."""

    COPYING = "copying"  # changes are captured; rows, indexes and keys on their way
    COMPARED = "compared"  # every row was equal; ready for the cut-over
    SWAPPED = "swapped"  # it bears the name; the old table waits for `backfill cutover --finish`


def of(connection: Connection, table_name: str) -> Row[Any] | None:
    """The copy of that table."""
    return connection.execute(select(shadows).where(shadows.c.table_name == table_name)).one_or_none()


def begin(connection: Connection, table_name: str, run_id: int, fingerprint: str) -> None:
    """Enter a copy, in the transaction that makes it."""
    connection.execute(
        shadows.insert().values(
            table_name=table_name, run_id=run_id, stage=Stage.COPYING, fingerprint=fingerprint
        )
    )


def compared(connection: Connection, table_name: str, counts: Mapping[str, int]) -> None:
    """Note that the rows were equal, and what was counted."""
    connection.execute(
        update(shadows)
        .where(shadows.c.table_name == table_name)
        .values(stage=Stage.COMPARED, counts=dict(counts))
    )


def swapped(connection: Connection, table_name: str) -> None:
    """Note that the copy bears the name, in the transaction that gives it."""
    connection.execute(
        update(shadows)
        .where(shadows.c.table_name == table_name)
        .values(stage=Stage.SWAPPED, swapped=func.clock_timestamp())
    )


def forget(connection: Connection, table_name: str) -> None:
    """Remove the entry: abandoned, or finished."""
    connection.execute(shadows.delete().where(shadows.c.table_name == table_name))


def waiting(connection: Connection) -> list[str]:
    """Tables whose copy does not serve yet."""
    statement = select(shadows.c.table_name).where(shadows.c.stage != Stage.SWAPPED)
    return list(connection.execute(statement.order_by(shadows.c.table_name)).scalars())
