"""Batch map: the part of the address map that one batch needs, in a temporary table of its session.

Each pass of a batch joins its rows with the map. Putting all of a map of 197,000 texts into a hash takes
some 90 ms, and probing its index 5 µs a row; eight passes a batch paid that eight times, two fifths of all
CPU time of a run over 2 million rows. The batch map is joined once, and has the texts of the batch alone.

A row that comes into the range meanwhile with another text waits for the sweep.
"""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute, rows, value
from backfill.database.quoting import regclass, table
from backfill.jobs.passes import Pass
from backfill.jobs.row_needs import raw_text, short
from backfill.jobs.writer import Writer
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.plan import Job

NAME = sql.Identifier("pg_temp", "backfill_batch_map")
MOST_BESIDE = 3  # other jobs whose values a batch rewrites as well: ``shared_pass``

# Which join is right depends on how many rows look into the map, and the planner misjudges both sides:
# it charges a probe of the map's index four disk reads, and the condition on the JSON has no statistics.
# Measured, the map in memory: a probe 4-7 µs, putting one row of the map into a hash 0.3-0.5 µs. So rows
# probe when the map has over 16 times as many texts, and hash it otherwise. In a sweep nearly all rows are done
# and do not look: there they always probe. Before, three sweeps of 10 million events beside a live writer, with
# a map of a million texts, took longer than all links (164 s against 145).
PROBE = sql.SQL(
    "set local enable_nestloop = on; set local enable_hashjoin = off; set local enable_mergejoin = off"
)
HASH = sql.SQL("""
    set local enable_nestloop = off; set local enable_hashjoin = on; set local enable_mergejoin = off;
    set local work_mem = '64MB'
""")
PROBES_PER_ROW = 16
ROWS_PER_TEXT = 3  # in a range: a guess, and the two joins cost the same over a wide stretch

SIZES = sql.SQL("""
    select event.reltuples / greatest(event.relpages, 1), greatest(map.reltuples, 0)
      from pg_class as event, pg_class as map
     where event.oid = {event} and map.oid = {map}
""")

MADE_FOR = sql.SQL("select obj_description(to_regclass(%s), 'pg_class')")

MAKE = sql.SQL("""
    create temporary table {batch_map} as
    select {columns}
      from (select distinct {text} as raw from {table} as event
             where {in_range} and {short} and {needs_text}) as text
      join {map} as map on map.raw = text.raw
     where {usable};
    comment on table {batch_map} is {batch}
""")


def choose_join(connection: Connection, schema: str, job: Job, blocks: int, *, texts_only: bool) -> None:
    """Tell the planner, for this transaction, how to join the rows, or the texts, of *blocks* with the map."""
    statement = SIZES.format(event=regclass(job), map=address_map.regclass(schema))
    ((density, texts),) = rows(connection, statement)
    wanted = max(density, 1) * blocks / (ROWS_PER_TEXT if texts_only else 1)
    execute(connection, PROBE if texts > PROBES_PER_ROW * wanted else HASH)


def name(number: int) -> sql.Identifier:
    """The batch map of a batch's own job (0), or of another that is rewritten beside it."""
    return sql.Identifier("pg_temp", f"backfill_batch_map_{number}") if number else NAME


def statement(writer: Writer, batch: Batch, number: int = 0) -> sql.Composed:
    """Makes the batch map of *batch*."""
    job = writer.job
    return MAKE.format(
        text=raw_text(job),
        table=table(job),
        in_range=batch.range.holds("event"),
        short=short(raw_text(job)),
        needs_text=writer.needs_text,
        usable=writer.usable,
        columns=sql.SQL(", ").join((sql.Identifier("map", "raw"), *writer.carries)),
        map=address_map.name(writer.schema),
        batch_map=name(number),
        batch=sql.Literal(str(batch.id)),
    )


def ensure(connection: Connection, writer: Writer, batch: Batch, number: int = 0) -> None:
    """The batch map of *batch*, unless this session has it; from a map that the caller knows to be complete."""
    if value(connection, MADE_FOR, (".".join(name(number).strings),)) == str(batch.id):
        return
    if number == 0:
        drop(connection)
    blocks = batch.range.last - batch.range.first
    choose_join(connection, writer.schema, writer.job, blocks, texts_only=True)
    execute(connection, statement(writer, batch, number))


def texts(connection: Connection, writer: Writer, batch: Batch, now: Pass) -> sql.Identifier:
    """The batch map, or all of the map where the pass needs no part of it; the join is chosen for this transaction."""
    if batch.phase.is_sweep:
        execute(connection, PROBE)
        return address_map.name(writer.schema)
    if batch.passes == 1:
        choose_join(connection, writer.schema, writer.job, now.range.last - now.range.first, texts_only=False)
        return address_map.name(writer.schema)
    ensure(connection, writer, batch)
    execute(connection, HASH)
    return NAME


def drop(connection: Connection) -> None:
    """Take the texts out of a session that goes on."""
    names = sql.SQL(", ").join(map(name, range(MOST_BESIDE + 1)))
    execute(connection, sql.SQL("drop table if exists {}").format(names))
