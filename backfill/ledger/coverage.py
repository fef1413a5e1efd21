"""Coverage records in the ledger: what the gates read."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from backfill.ledger.tables import coverage


def record(
    connection: Connection,
    *,
    table_name: str,
    kind: str,
    plan_fingerprint: str,
    covered: bool,
    counts: Mapping[str, Any],
    reasons: Sequence[str],
    raw_rows: int | None,
    newest_raw: str | None,
    detail: Mapping[str, Any],
    method: str = "full",
) -> None:
    """Enter one table's proof."""
    connection.execute(
        coverage.insert().values(
            table_name=table_name,
            kind=kind,
            plan_fingerprint=plan_fingerprint,
            method=method,
            covered=covered,
            counts=dict(counts),
            reasons=list(reasons),
            raw_rows=raw_rows,
            newest_raw=newest_raw,
            detail=dict(detail),
            finished=func.clock_timestamp(),
        )
    )


def latest(
    connection: Connection, table_name: str, plan_fingerprint: str, *, with_raw: bool = False
) -> Row[Any] | None:
    """The newest full record of that table under that plan; *with_raw*: made while the raw column stood."""
    statement = (
        select(coverage)
        .where(
            coverage.c.table_name == table_name,
            coverage.c.plan_fingerprint == plan_fingerprint,
            coverage.c.method == "full",
        )
        .order_by(coverage.c.id.desc())
        .limit(1)
    )
    if with_raw:
        statement = statement.where(coverage.c.detail["proved"].astext.is_(None))
    return connection.execute(statement).one_or_none()
