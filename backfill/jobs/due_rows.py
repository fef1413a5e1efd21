"""Due rows: how many rows of a job are to be rewritten now, and in which blocks they lie.

By an index on the time where there is one: a run of few rows then reads few blocks. Rows that wait in the quarantine
are none of them as long as their text is no address: a run could do nothing about them. Where nothing names a row, the
quarantine cannot tell; their texts are all looked at here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import Reason, canonicalise
from backfill.database.blocks import Heap, Range, heap_of, ranges
from backfill.database.connection import driver
from backfill.database.decodable import decodable
from backfill.database.quoting import table
from backfill.database.row_key import RowKey, row_key
from backfill.database.time_index import has_time_index
from backfill.jobs.closing_count import COUNT_BLOCKS, STRETCH, joined
from backfill.jobs.kinds import writer_of
from backfill.jobs.row_needs import may_be_address, raw_text
from backfill.ledger.quarantine import DUPLICATE_RESULT
from backfill.plan import InPlaceJob

# Of a row that waits, its text says whether it still has to: it was corrected, the plan was changed, or another row has
# its key by now.
FIND = sql.SQL("""
    select {waits}, case when {waits} and {may_be_address} then {text} end,
           case when {waits} then case when {decodable} then {too_long} else {undecodable} end end,
           count(*), array_agg(distinct (event.ctid::text::point)[0]::bigint / {stretch})
      from {table} as event {listed}
     where {unfinished} and {in_range}
     group by 1, 2, 3
""")
LISTED = sql.SQL("""
      left join {quarantine} as entry
        on entry.job = {name} and entry.row_key = {key} and entry.decision_id is null
       and entry.reason <> {duplicate}  -- the other row may be gone
""")
WHOLE = sql.SQL("true")
FETCHED = 10_000  # distinct texts at a time


@dataclass(frozen=True)
class DueRows:
    """What a run at that moment has to do in one table."""

    rows: int
    within: list[Range]  # blocks that hold all of them
    by_index: bool
    heap: Heap
    unreadable: Mapping[str, int] = field(
        default_factory=dict
    )  # rows by reason; with names, of those in the quarantine

    @property
    def share(self) -> float:
        """Of the rows in those blocks, as the planner estimates them."""
        blocks = sum(span.last - span.first for span in self.within)
        there = self.heap.rows * blocks / max(self.heap.blocks, 1)
        return min(self.rows / there, 1.0) if there else 1.0


def find(engine: Engine, schema: str, job: InPlaceJob, checkpoint: Callable[[], None]) -> DueRows:
    """The due rows of *job*, which has a moment. *checkpoint* is asked between two ranges and may raise."""
    with engine.begin() as connection:
        heap, key = heap_of(connection, job), row_key(connection, job)
        by_index = has_time_index(connection, job, str(job.time_column))
    spans = [None] if by_index else list(ranges(heap.blocks, COUNT_BLOCKS))
    found, stretches, unreadable = 0, set[int](), Counter[str]()
    for span in spans:
        checkpoint()
        in_range = WHOLE if span is None else span.holds("event")
        with engine.begin() as connection:
            for reason, number, where in _groups(connection, schema, job, key, in_range):
                if reason is not None:
                    unreadable[reason] += number
                if reason is None or job.unreadable == "nothing":
                    found += number
                    stretches.update(where or ())
    return DueRows(found, joined(stretches), by_index, heap, unreadable)


def _groups(
    connection: Connection, schema: str, job: InPlaceJob, key: RowKey, in_range: sql.Composable
) -> Iterator[tuple[str | None, int, list[int] | None]]:
    """Why their text is no address, number and stretches of unfinished rows. Where rows have names, only of those in the
    quarantine the text is asked."""
    text = raw_text(job)
    listed = LISTED.format(
        quarantine=sql.Identifier(schema, "quarantine"),
        name=sql.Literal(job.identity),
        key=key.text(),
        duplicate=sql.Literal(DUPLICATE_RESULT),
    )
    statement = FIND.format(
        waits=sql.SQL("entry.job is not null" if key.columns else "true"),
        listed=listed if key.columns else sql.SQL(""),
        stretch=sql.Literal(STRETCH),
        table=table(job),
        unfinished=writer_of(job, schema).unfinished,
        in_range=in_range,
        text=text,
        may_be_address=may_be_address(text),
        decodable=decodable(text),
        too_long=sql.Literal(Reason.TOO_LONG.value),
        undecodable=sql.Literal(Reason.UNDECODABLE.value),
    )
    with driver(connection).cursor(name="backfill_due") as cursor:
        cursor.itersize = FETCHED
        cursor.execute(statement)
        for waits, raw, otherwise, number, where in cursor:
            read = canonicalise(raw) if raw is not None else otherwise
            yield (str(read) if waits and isinstance(read, str) else None), number, where
