"""Erasures in the ledger: each step is entered before it begins, so that a killed one is found again."""

from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, Row, func, select, update

from backfill.database.connection import value
from backfill.ledger.decisions import operator
from backfill.ledger.tables import erasures

RUNNING, DONE, LEFT, FAILED = "running", "done", "left", "failed"


def begin(connection: Connection, kind: str, target: str, method: str, **values: Any) -> int:
    """Enter a step as running; returns its number."""
    values.setdefault("lsn", current_lsn(connection))
    who = connection.execute(select(func.concat(operator(), " as ", func.current_user()))).scalar()
    number: int = connection.execute(
        erasures.insert()
        .values(kind=kind, target=target, method=method, status=RUNNING, erased_by=who, **values)
        .returning(erasures.c.id)
    ).scalar_one()
    return number


def end(connection: Connection, number: int, status: str, **values: Any) -> None:
    """Close a step."""
    connection.execute(
        update(erasures)
        .where(erasures.c.id == number)
        .values(status=status, finished=func.clock_timestamp(), **values)
    )


def latest(connection: Connection, kind: str, target: str) -> Row[Any] | None:
    """The newest step of that kind on that target."""
    return connection.execute(
        select(erasures)
        .where(erasures.c.kind == kind, erasures.c.target == target)
        .order_by(erasures.c.id.desc())
        .limit(1)
    ).one_or_none()


def standing(connection: Connection) -> list[Row[Any]]:
    """The newest step of each kind and target, in the order in which they were taken."""
    newest = select(func.max(erasures.c.id)).group_by(erasures.c.kind, erasures.c.target)
    return list(connection.execute(select(erasures).where(erasures.c.id.in_(newest)).order_by(erasures.c.id)))


def current_lsn(connection: Connection) -> str:
    """Where the WAL stands."""
    return str(value(connection, sql.SQL("select pg_current_wal_insert_lsn()::text")))
