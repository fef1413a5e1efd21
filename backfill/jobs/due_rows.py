"""Due rows: how many rows of a job are to be rewritten now, and in which blocks they lie.

By an index on the time where there is one: a run of few rows then reads few blocks. Rows that wait in the quarantine
are none of them: a run could do nothing about them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database.blocks import Heap, Range, heap_of, ranges
from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.database.time_index import has_time_index
from backfill.jobs.closing_count import COUNT_BLOCKS, STRETCH, joined
from backfill.jobs.kinds import writer_of
from backfill.plan import InPlaceJob

FIND = sql.SQL("""
    select count(*), array_agg(distinct (event.ctid::text::point)[0]::bigint / {stretch})
      from {table} as event
     where {unfinished} and {in_range}
       and not exists (select from {quarantine} as entry
                        where entry.job = {name} and entry.row_key = event.{key}::text and entry.decision_id is null)
""")
WHOLE = sql.SQL("true")


@dataclass(frozen=True)
class DueRows:
    """What a run at that moment has to do in one table."""

    rows: int
    within: list[Range]  # blocks that hold all of them
    by_index: bool
    heap: Heap

    @property
    def share(self) -> float:
        """Of the rows in those blocks, as the planner estimates them."""
        blocks = sum(span.last - span.first for span in self.within)
        there = self.heap.rows * blocks / max(self.heap.blocks, 1)
        return min(self.rows / there, 1.0) if there else 1.0


def find(engine: Engine, schema: str, job: InPlaceJob, checkpoint: Callable[[], None]) -> DueRows:
    """The due rows of *job*, which has a moment. *checkpoint* is asked between two ranges and may raise."""
    with engine.begin() as connection:
        heap = heap_of(connection, job)
        by_index = has_time_index(connection, job, str(job.time_column))
    spans = [None] if by_index else list(ranges(heap.blocks, COUNT_BLOCKS))
    found, stretches = 0, set[int]()
    for span in spans:
        checkpoint()
        statement = FIND.format(
            stretch=sql.Literal(STRETCH),
            table=table(job),
            unfinished=writer_of(job, schema).unfinished,
            in_range=WHOLE if span is None else span.holds("event"),
            quarantine=sql.Identifier(schema, "quarantine"),
            name=sql.Literal(job.identity),
            key=sql.Identifier(job.key),
        )
        with engine.begin() as connection:
            ((number, where),) = rows(connection, statement)
        found += number
        stretches.update(where or ())
    return DueRows(found, joined(stretches), by_index, heap)
