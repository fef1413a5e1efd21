"""Kept rows: rows that a trigger of the application keeps as they are, whatever our UPDATE says.

The server counts such a row as updated, or passes over it without a word. So some of the rows that were left
are tried once more, each locked, and looked at in the same transaction, which is then rolled back: nobody else
can have written them meanwhile, and what a trigger did is undone.
"""

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.blocks import Range
from backfill.database.columns import column_type
from backfill.database.connection import execute, rows, value
from backfill.database.quoting import table
from backfill.database.timeouts import Timeouts
from backfill.database.writing import writes
from backfill.jobs.kinds import writer_of
from backfill.jobs.row_needs import raw_text
from backfill.ledger import address_map
from backfill.plan import Job

MOST = 1_000  # rows of a table that are tried: some tenths of a second, and dead versions of no more

LEFT = sql.SQL("""
    select event.{key}::text
      from {table} as event
      join {map} as map on map.raw = {text}
     where {in_range} and {unfinished} and {usable}
     limit %s
       for update of event skip locked
""")

# Under the application's search_path: all is qualified.
TRY = sql.SQL("""
    update {table} as event
       set {assignment}
      from {map} as map
     where event.{key} {equals} any (%s::{key_type}[])
       and {unfinished}
       and {usable}
       and map.raw OPERATOR(pg_catalog.=) {text}
""")

STILL = sql.SQL("""
    select count(*) from {table} as event where event.{key} {equals} any (%s::{key_type}[]) and {unfinished}
""")


def count(engine: Engine, schema: str, job: Job, spans: list[Range], timeouts: Timeouts) -> int:
    """How many rows there stay unfinished; at most ``MOST`` are tried."""
    kept = tried = 0
    for span in spans:
        if tried >= MOST:
            break
        with engine.connect() as connection:
            timeouts.apply(connection)
            number, still = _try(connection, schema, job, span, MOST - tried)
            connection.rollback()
        tried, kept = tried + number, kept + still
    return kept


def _try(connection: Connection, schema: str, job: Job, span: Range, most: int) -> tuple[int, int]:
    key, writer = column_type(connection, job, job.key), writer_of(job, schema)
    names = {
        "table": table(job),
        "map": address_map.name(schema),
        "key": sql.Identifier(job.key),
        "unfinished": writer.unfinished,
        "usable": writer.usable,
        "assignment": writer.assignment,
        "text": raw_text(job),
        "key_type": sql.SQL(key.name),
        "equals": key.equals,
        "in_range": span.holds("event"),
    }
    keys = [found for (found,) in rows(connection, LEFT.format(**names), (most,))]
    if not keys:
        return 0, 0
    with writes(connection, job):
        execute(connection, TRY.format(**names), (keys,)).close()
    return len(keys), int(value(connection, STILL.format(**names), (keys,)))
