"""Kept rows: rows that a trigger of the application keeps as they are, whatever our UPDATE says.

The server counts such a row as updated, or passes over it without a word. So some of the rows that were left
are tried once more, each locked, and looked at in the same transaction, which is then rolled back: nobody else
can have written them meanwhile, and what a trigger did is undone.
"""

import psycopg2.errors
from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.blocks import Range
from backfill.database.columns import column_type
from backfill.database.connection import execute, rows, value
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.database.timeouts import Timeouts
from backfill.database.writing import writes
from backfill.jobs.in_place import InPlaceWriter
from backfill.jobs.into import IntoWriter
from backfill.jobs.kinds import writer_of
from backfill.jobs.row_needs import raw_text
from backfill.jobs.writer import Writer
from backfill.ledger import address_map
from backfill.plan import Job

MOST = 1_000  # rows of a table that are tried: some tenths of a second, and dead versions of no more

LEFT = sql.SQL("""
    select {name}
      from {table} as event
      join {map} as map on map.raw = {text}
     where {in_range} and {unfinished} and {usable}
     limit %s
       for update of event skip locked
""")

AT_PLACE = sql.SQL("event.ctid OPERATOR(pg_catalog.=) wanted.wanted::pg_catalog.tid")

# Under the application's search_path: all is qualified.
TRY = sql.SQL("""
    update {table} as event
       set {assignment}
      from {map} as map, pg_catalog.unnest(%s::pg_catalog.text[]) as wanted
     where {named}
       and {unfinished}
       and {usable}
       and map.raw OPERATOR(pg_catalog.=) {text}
     {returning}
""")

STILL = sql.SQL("""
    select count(*) from unnest(%s::text[]) as wanted join {table} as event on {named} where {unfinished}
""")

# Nothing names the row: it lies where it lay when it was locked, or is one that this transaction wrote, in the same
# blocks or where the UPDATE has put it.
STILL_THERE = sql.SQL("""
    select count(*)
      from (select event.ctid from {table} as event
             where {in_range} and (event.ctid = any (%(tried)s::tid[]) or event.xmin = pg_current_xact_id()::xid) and {unfinished}
             union
            select event.ctid from {table} as event where event.ctid = any (%(written)s::tid[]) and {unfinished}) as kept
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


def _assignment(connection: Connection, writer: Writer) -> sql.Composable:
    job = writer.job
    if not isinstance(writer, InPlaceWriter) or not column_type(connection, job, job.raw).is_inet:
        return writer.assignment
    return sql.SQL("{} = ({})::pg_catalog.inet").format(sql.Identifier(job.raw), writer.value)


def _try(connection: Connection, schema: str, job: Job, span: Range, most: int) -> tuple[int, int]:
    key, writer = row_key(connection, job), writer_of(job, schema)
    unfinished, assignments = writer.unfinished, [_assignment(connection, writer)]
    if isinstance(writer, IntoWriter) and writer.place is not None:
        place = writer.place.fitted(connection)
        unfinished = writer.left(place)
        assignments += place.assignments
    wanted = sql.SQL("wanted.wanted")  # a function's one column has its alias's name
    names = {
        "table": table(job),
        "map": address_map.name(schema),
        "name": key.text() if key.columns else sql.SQL("event.ctid::text"),
        "named": key.names(connection, job, wanted) if key.columns else AT_PLACE,
        "unfinished": unfinished,
        "usable": writer.usable,
        "assignment": sql.SQL(", ").join(assignments),
        "text": raw_text(job),
        "in_range": span.holds("event"),
        "returning": sql.SQL("" if key.columns else "returning event.ctid"),
    }
    keys = [found for (found,) in rows(connection, LEFT.format(**names), (most,))]
    if not keys:
        return 0, 0
    try:
        with writes(connection, job), execute(connection, TRY.format(**names), (keys,)) as cursor:
            written = [] if key.columns else [place for (place,) in cursor.fetchall()]
    except psycopg2.errors.UniqueViolation:  # they wait for another row, not for a trigger
        return len(keys), 0
    if key.columns:
        return len(keys), int(value(connection, STILL.format(**names), (keys,)))
    places = {"tried": keys, "written": written}
    return len(keys), int(value(connection, STILL_THERE.format(**names), places))
