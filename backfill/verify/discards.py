"""Discards: a column that goes without being kept; all there is to know is whether it is still written."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import has_column
from backfill.database.connection import as_text, rows
from backfill.database.quoting import table
from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.plan import Discard

COUNT = sql.SQL(
    "select count(*), count({column}), max({time}) filter (where {column} is not null) from {table}"
)


def observe(connection: Connection, discard: Discard) -> CoverageRecord:
    """Rows, rows with a value, and the newest of those."""
    if not has_column(connection, discard, discard.column):
        ((total,),) = rows(connection, sql.SQL("select count(*) from {}").format(table(discard)))
        return CoverageRecord(
            job=discard.identity,
            table=discard.label,
            kind=Kind.DISCARD,
            covered=True,
            counts={Count.ROWS: total},
            raw_rows=0,
        )
    statement = COUNT.format(
        column=sql.Identifier(discard.column),
        time=sql.Identifier(discard.time) if discard.time else sql.SQL("null::text"),
        table=table(discard),
    )
    ((total, raw, newest),) = rows(connection, statement)
    return CoverageRecord(
        job=discard.identity,
        table=discard.label,
        kind=Kind.DISCARD,
        covered=True,  # nothing of it is kept, so nothing can be missing
        counts={Count.ROWS: total, Count.RAW: raw},
        raw_rows=raw,
        newest_raw=as_text(connection, newest),
    )
