"""Proofs of erasure in the ledger; the reports read the newest."""

from typing import Any

from sqlalchemy import Connection, Row, select

from backfill.ledger.tables import proofs


def record(connection: Connection, **values: Any) -> None:
    """Enter a proof."""
    connection.execute(proofs.insert().values(**values))


def latest(connection: Connection, plan_fingerprint: str) -> Row[Any] | None:
    """The newest under that plan."""
    return connection.execute(
        select(proofs)
        .where(proofs.c.plan_fingerprint == plan_fingerprint)
        .order_by(proofs.c.id.desc())
        .limit(1)
    ).one_or_none()
