"""Coverage records in the ledger: what the gates read."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, literal_column, select, update

from backfill.database.identity import database_identity
from backfill.identity import JobId
from backfill.ledger.tables import coverage

# Over everything that a gate reads of a record. No key is in it (a gate has none, and a DBA's psql
# has less), so it tells a record that was touched from one that was not, and nobody who means to forge.
DIGEST = """encode(sha256(convert_to(concat_ws('|', {0}id, {0}job, {0}kind, {0}plan_fingerprint,
    {0}method, {0}covered, {0}counts, {0}reasons, coalesce({0}raw_rows, -1), coalesce({0}newest_raw, ''),
    {0}detail, extract(epoch from {0}finished), coalesce({0}database, '')), 'UTF8')), 'hex')"""


def record(
    connection: Connection,
    *,
    job: JobId,
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
    """Enter one proof."""
    number = connection.execute(
        coverage.insert()
        .values(
            job=job,
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
            database=database_identity(connection),
        )
        .returning(coverage.c.id)
    ).scalar_one()
    connection.execute(
        update(coverage).where(coverage.c.id == number).values(digest=literal_column(DIGEST.format("")))
    )


def is_genuine(connection: Connection, number: int) -> bool:
    """Whether the record is as it was entered, and about this database."""
    row = connection.execute(
        select(coverage.c.digest == literal_column(DIGEST.format("")), coverage.c.database).where(
            coverage.c.id == number
        )
    ).one()
    return bool(row[0]) and row.database == database_identity(connection)


def latest(
    connection: Connection, job: JobId, plan_fingerprint: str, *, with_raw: bool = False
) -> Row[Any] | None:
    """The newest full record of that job under that plan; *with_raw*: made while the raw column stood."""
    statement = (
        select(coverage)
        .where(
            coverage.c.job == job,
            coverage.c.plan_fingerprint == plan_fingerprint,
            coverage.c.method == "full",
        )
        .order_by(coverage.c.id.desc())
        .limit(1)
    )
    if with_raw:
        statement = statement.where(coverage.c.detail["proved"].astext.is_(None))
    return connection.execute(statement).one_or_none()


def was_covered(connection: Connection, job: JobId) -> bool:
    """Whether any full verification found that column covered, under whatever plan."""
    statement = select(coverage.c.id).where(
        coverage.c.job == job, coverage.c.method == "full", coverage.c.covered
    )
    return connection.execute(statement.limit(1)).first() is not None
