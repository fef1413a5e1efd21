"""Coverage records in the ledger: what the gates read."""

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, DateTime, func, literal_column, select, update

from backfill.database.server_identity import database_identity
from backfill.job_id import JobId
from backfill.ledger.coverage_record import CoverageRecord, Method, as_columns, from_columns
from backfill.ledger.tables import coverage
from backfill.raw_column import RawColumn

_MOMENTS = [column.name for column in coverage.columns if isinstance(column.type, DateTime)]
_APART = ",".join(["digest", *_MOMENTS])  # moments depend on the session's time zone as text


def digest(record: str) -> str:
    """The digest of the row that is called *record*, as an SQL expression: over all that is on record.

    No key is in it (a gate has none, and a DBA's psql has less), so it tells a record that was touched
    from one that was not, and nobody who means to forge.
    """
    moments = ", ".join(f"coalesce(extract(epoch from {record}.{name})::text, '')" for name in _MOMENTS)
    whole = f"(to_jsonb({record}) - '{{{_APART}}}'::text[])::text"
    return f"encode(sha256(convert_to(concat_ws('|', {whole}, {moments}), 'UTF8')), 'hex')"


_DIGEST: ColumnElement[str] = literal_column(digest(coverage.name))


def enter(connection: Connection, record: CoverageRecord, plan_fingerprint: str) -> None:
    """Put one record into the ledger, as of now and of this database."""
    statement = coverage.insert().values(
        **as_columns(record),
        plan_fingerprint=plan_fingerprint,
        finished=func.clock_timestamp(),
        database=database_identity(connection),
    )
    number = connection.execute(statement.returning(coverage.c.id)).scalar_one()
    connection.execute(update(coverage).where(coverage.c.id == number).values(digest=_DIGEST))


def latest(
    connection: Connection, part: RawColumn, plan_fingerprint: str, *, with_raw: bool = False
) -> tuple[CoverageRecord, bool] | None:
    """The newest full record of that column under that plan, and whether it is genuine.

    Genuine: as it was entered, and about this database. *with_raw*: made while the raw column stood.
    """
    genuine = (coverage.c.digest == _DIGEST) & (coverage.c.database == database_identity(connection))
    statement = (
        select(coverage, func.coalesce(genuine, False).label("genuine"))
        .where(
            coverage.c.job == part.identity,
            coverage.c.plan_fingerprint == plan_fingerprint,
            coverage.c.method == Method.FULL,
        )
        .order_by(coverage.c.id.desc())
        .limit(1)
    )
    if with_raw:
        statement = statement.where(coverage.c.proved.is_(None))
    row = connection.execute(statement).one_or_none()
    return None if row is None else (from_columns(row._asdict(), part.label), bool(row.genuine))


def entered_at(
    connection: Connection, job: str, moment: str, label: str
) -> tuple[CoverageRecord, bool] | None:
    """The record of that column that was entered at that *moment* (ISO 8601), and whether it is genuine."""
    genuine = (coverage.c.digest == _DIGEST) & (coverage.c.database == database_identity(connection))
    try:
        finished = datetime.fromisoformat(moment)
    except ValueError:
        return None
    statement = select(coverage, func.coalesce(genuine, False).label("genuine")).where(
        coverage.c.job == job, coverage.c.finished == finished
    )
    row = connection.execute(statement).first()
    return None if row is None else (from_columns(row._asdict(), label), bool(row.genuine))


def was_covered(connection: Connection, job: JobId) -> bool:
    """Whether any full verification found that column covered, under whatever plan."""
    statement = select(coverage.c.id).where(
        coverage.c.job == job, coverage.c.method == Method.FULL, coverage.c.covered
    )
    return connection.execute(statement.limit(1)).first() is not None
