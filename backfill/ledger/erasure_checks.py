"""Erasure checks in the ledger; the reports read the newest."""

from typing import Any

from sqlalchemy import Connection, Row, select

from backfill.ledger.tables import erasure_checks


def record(connection: Connection, **values: Any) -> None:
    """Enter a proof."""
    connection.execute(erasure_checks.insert().values(**values))


def latest(connection: Connection, plan_fingerprint: str) -> Row[Any] | None:
    """The newest under that plan."""
    return connection.execute(
        select(erasure_checks)
        .where(erasure_checks.c.plan_fingerprint == plan_fingerprint)
        .order_by(erasure_checks.c.id.desc())
        .limit(1)
    ).one_or_none()
