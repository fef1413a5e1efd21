"""Closing: the count that ends a run, made from the data, in short snapshots.

rows = linked + already linked + no address + quarantined + left to the live application.
"""

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database.engine import rows
from backfill.database.heap import heap_of, ranges
from backfill.database.names import table
from backfill.jobs.conditions import unlinked
from backfill.ledger.runs import TableCount
from backfill.plan import Job

COUNT_BLOCKS = 50_000  # 400 MB a snapshot: a second or so

COUNT = sql.SQL("""
    select count(*),
           count(*) filter (where event.{raw} is null),
           count(*) filter (where event.{raw} is not null and event.{link} is not null),
           count(*) filter (where {unlinked} and entry.row_key is not null)
      from {table} as event
      left join {quarantine} as entry
        on entry.table_name = {name} and entry.row_key = event.{key}::text
       and entry.decision_id is null and {unlinked}
     where {in_range}
""")


def count_rows(engine: Engine, schema: str, job: Job, already_linked: int) -> TableCount:
    """The closing count; *already_linked* rows were found so when their batch began."""
    sums = [0, 0, 0, 0]
    with engine.begin() as connection:
        blocks = heap_of(connection, job).blocks
    for span in ranges(blocks, COUNT_BLOCKS):
        statement = COUNT.format(
            raw=sql.Identifier(job.raw),
            link=sql.Identifier(job.link),
            key=sql.Identifier(job.key),
            table=table(job),
            quarantine=sql.Identifier(schema, "quarantine"),
            name=sql.Literal(job.name),
            unlinked=unlinked(job),
            in_range=span.holds("event"),
        )
        with engine.begin() as connection:
            (counted,) = rows(connection, statement)
        sums = [a + b for a, b in zip(sums, counted, strict=True)]
    total, no_address, linked, quarantined = sums
    return TableCount(
        table_name=job.name,
        rows=total,
        linked=linked - min(already_linked, linked),
        already_linked=min(already_linked, linked),
        no_address=no_address,
        quarantined=quarantined,
        left_to_live=total - no_address - linked - quarantined,
    )
