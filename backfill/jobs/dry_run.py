"""Dry run: what a job in place would rewrite, counted by reading alone.

The table is read in ranges of blocks, a snapshot each, and each distinct text of a range is read here once. No text
leaves this process. Memory is bounded: of texts that were met, a number each is kept, and only so many.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.addresses import MAX_LENGTH, Reason, canonicalise
from backfill.age.time_column import Unit
from backfill.database.blocks import Range, heap_of, ranges
from backfill.database.connection import rows, value
from backfill.database.decodable import decodable
from backfill.database.quoting import table
from backfill.jobs import due, foreseen_duplicates
from backfill.jobs.kinds import writer_of
from backfill.jobs.row_needs import raw_text
from backfill.jobs.values import ValueResolver
from backfill.ledger import address_map
from backfill.ledger.dry_runs import Counts
from backfill.plan import InPlaceJob, Plan

RANGE_BLOCKS = 2_000  # 16 MB a snapshot: as many texts at once as fit into it
MOST_TEXTS = 1_000_000  # distinct ones that are told apart, at some 80 bytes each

# One scan a range: each row is in one class. What is no text that could be an address is not sent.
READ = sql.SQL("""
    select class, case when class = 'text' then raw end, count(*), {first}, min(time)::text, {last}, max(time)::text
      from (select case when event.{raw} is null then 'null'
                        when not {due} then 'young'
                        when not {unfinished} then 'done'
                        when not {decodable} then {undecodable}
                        when length({text}) > {most} then {too_long}
                        else 'text' end as class,
                   {text} as raw, {time} as time
              from {table} as event where {in_range}) as event
     group by 1, 2
""")
# By number, as a session of ours would not take every time as a value (infinity, the year 10000).
NUMBERS = {
    Unit.SECONDS: "{}(time)::float8",
    Unit.MILLISECONDS: "{}(time)::float8",
    None: "extract(epoch from {}(time))::float8",
}
NOW = sql.SQL("select now()")

Moment = tuple[float | None, str | None]


@dataclass
class _Tally:
    """What was counted so far."""

    classes: Counter[str] = field(default_factory=Counter)
    readable: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # rows, by the reason why their text is no address
    texts: set[int] = field(default_factory=set)
    more_texts: bool = False
    oldest: Moment = (None, None)
    newest: Moment = (None, None)

    def add(self, name: str, text: str | None, number: int, oldest: Moment, newest: Moment) -> None:
        """One group of rows."""
        self.classes[name] += number
        self.oldest = min((one for one in (self.oldest, oldest) if one[0] is not None), default=oldest)
        self.newest = max((one for one in (self.newest, newest) if one[0] is not None), default=newest)
        if name in (Reason.TOO_LONG, Reason.UNDECODABLE):
            self.reasons[name] += number
        if text is None:
            return
        if len(self.texts) < MOST_TEXTS:
            self.texts.add(hash(text))
        elif hash(text) not in self.texts:
            self.more_texts = True
        read = canonicalise(text)
        if isinstance(read, Reason):
            self.reasons[read.value] += number
        else:
            self.readable += number


def count(
    engine: Engine, schema: str, plan: Plan, job: InPlaceJob, resolver: ValueResolver | None = None
) -> Counts:
    """Every row of the table, in its class. *resolver*: of a job that says what becomes of duplicates."""
    tally = _Tally()
    with engine.begin() as connection:
        moment: datetime = value(connection, NOW)
        heap = heap_of(connection, job)
        known = address_map.exists(connection, schema)
        if not known:  # writers ask it, and an empty one says what none says
            address_map.create(connection, schema, plan.address_table)
    for span in ranges(heap.blocks, RANGE_BLOCKS):
        with engine.begin() as connection:
            for name, text, number, *times in rows(connection, _statement(schema, job.at(moment), span)):
                tally.add(name, text, number, (times[0], times[1]), (times[2], times[3]))
    duplicates, keys = 0, list[str]()
    if job.on_duplicate is not None and resolver is not None:
        with engine.begin() as connection:
            duplicates, keys = foreseen_duplicates.count(connection, schema, plan, job.at(moment), resolver)
    if not known:
        with engine.begin() as connection:
            address_map.drop(connection, schema)
    return Counts(
        rows=sum(tally.classes.values()),
        null=tally.classes["null"],
        not_due=tally.classes["young"],
        already=tally.classes["done"],
        readable=tally.readable,
        unreadable=dict(sorted(tally.reasons.items())),
        texts=len(tally.texts),
        more_texts=tally.more_texts,
        oldest=tally.oldest[1],
        newest=tally.newest[1],
        duplicates=duplicates,
        unique_keys=keys,
    )


def _statement(schema: str, job: InPlaceJob, span: Range) -> sql.Composed:
    number = NUMBERS[job.time.unit if job.time is not None else None]
    if job.time is None:
        time: sql.Composable = sql.SQL("null::timestamptz")
    else:
        time = sql.Identifier("event", job.time.column)
    return READ.format(
        raw=sql.Identifier(job.raw),
        due=due.condition(job),
        unfinished=writer_of(job, schema).unfinished,
        decodable=decodable(raw_text(job)),
        undecodable=sql.Literal(Reason.UNDECODABLE.value),
        too_long=sql.Literal(Reason.TOO_LONG.value),
        most=sql.Literal(MAX_LENGTH),
        text=raw_text(job),
        time=time,
        first=sql.SQL(number.format("min")),
        last=sql.SQL(number.format("max")),
        table=table(job),
        in_range=span.holds("event"),
    )
