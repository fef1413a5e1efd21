"""Closing count: the count that ends a run, made from the data, in short snapshots.

rows = linked + already linked + no raw value + quarantined + not due + left to the live application.

The same look tells whether anything is left that a sweep could do, so that a table to which nobody
wrote meanwhile is read once more and not three times.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.addresses import Reason
from backfill.database.blocks import Range, heap_of, ranges
from backfill.database.connection import rows
from backfill.database.decodable import decodable
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.engine.in_flight import in_threads
from backfill.job_id import JobId
from backfill.jobs import due
from backfill.jobs.kinds import writer_of
from backfill.jobs.row_needs import may_be_address, raw_text
from backfill.ledger import address_map
from backfill.ledger.runs import TableCount
from backfill.plan import Job, Plan

STRETCH = 128  # blocks: how finely it is said where something is left to do
MOST_RANGES = 64  # of a table: more of them are joined, as each is a batch of a sweep at least
COUNT_BLOCKS = 10_000  # 80 MB a snapshot: a few tenths of a second

# What a sweep could do: write or quarantine a row that is unfinished, or what the kind of job knows besides. Either
# state is worked out once a row ("offset 0"), and not wherever it is named: the form of a result costs a row more
# than to read it.
LEFT = sql.SQL("(state.unfinished and entry.reason is null) or {more}")
COUNT = sql.SQL("""
    select count(*),
           count(*) filter (where event.{raw} is null),
           count(*) filter (where state.finished),
           count(*) filter (where state.unfinished and entry.reason is not null),
           count(*) filter (where {left}),
           count(*) filter (where event.{raw} is not null and not state.finished and not state.unfinished),
           array_agg(distinct (event.ctid::text::point)[0]::bigint / {stretch}) filter (where {left}),
           {reasons}
      from {table} as event
     cross join lateral (select {finished} as finished offset 0) as looked
     cross join lateral (select looked.finished, case when looked.finished then false else {unfinished} end as unfinished
                         offset 0) as state
      left join {entry}
     where {in_range} and {which}
""")
# What the quarantine has of the row.
NAMED = sql.SQL("""{quarantine} as entry
        on entry.job = {name} and entry.row_key = {key} and entry.decision_id is null and state.unfinished
""")
# Nothing names the row: its text is asked, as it was when its batch was done.
COUNTED = sql.SQL("""lateral (
        select coalesce((select map.reason from {map} as map where map.raw = {text}),
                        case when {may_be_address} then null when {decodable} then {too_long} else {undecodable} end) as reason
         where state.unfinished) as entry on true
""")
OF_REASON = sql.SQL("count(*) filter (where entry.reason = {})")


@dataclass(frozen=True)
class Counted:
    """A table's rows as they are: counts add up with what is left to the live application."""

    rows: int = 0
    no_address: int = 0
    linked: int = 0  # before this run or by it
    quarantined: int = 0
    not_due: int = 0  # raw, and not old enough
    left: int = 0  # a sweep would do something about them
    stretches: tuple[int, ...] = ()  # where those are, in numbers of ``STRETCH`` blocks
    reasons: Counter[str] = field(default_factory=Counter)  # of those quarantined, where nothing names a row

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(
            self.rows + other.rows,
            self.no_address + other.no_address,
            self.linked + other.linked,
            self.quarantined + other.quarantined,
            self.not_due + other.not_due,
            self.left + other.left,
            self.stretches + other.stretches,
            self.reasons + other.reasons,
        )

    def where_left(self) -> list[Range]:
        """The blocks that hold all rows that are left."""
        return joined(self.stretches)

    def closing(self, job: Job, already_linked: int, kept: int, written: int = 0) -> TableCount:
        """The closing count; *already_linked* rows were found so when their batch began, *kept* by a trigger.

        *written*: by the run, where it may have left NULL in place of a value: such a row is no row without an
        address. Where rows came or went meanwhile, no more are counted so than hold NULL.
        """
        already = min(already_linked, self.linked)
        emptied = min(max(0, written - (self.linked - already)), self.no_address)
        return TableCount(
            job=job.identity,
            rows=self.rows,
            linked=self.linked - already + emptied,
            already_linked=already,
            no_address=self.no_address - emptied,
            quarantined=self.quarantined,
            left_to_live=self.rows - self.no_address - self.linked - self.quarantined - self.not_due - kept,
            kept=kept,
            not_due=self.not_due,
        )

    def closing_of_due(self, job: Job, written: int, kept: int) -> TableCount:
        """Of the rows that were due alone. Those that were *written* may lie in other blocks now, and are not counted again."""
        return TableCount(
            job=job.identity,
            rows=written + self.quarantined + self.left,
            linked=written,
            already_linked=0,
            no_address=0,
            quarantined=self.quarantined,
            left_to_live=self.left - min(kept, self.left),
            kept=min(kept, self.left),
        )


def joined(stretches: Iterable[int]) -> list[Range]:
    """Ranges of blocks that hold those stretches, in order: neighbours in one, and at most ``MOST_RANGES`` of them."""
    numbers = sorted(set(stretches))
    gap = 1
    while True:
        found: list[Range] = []
        for number in numbers:
            if found and number - found[-1].last < gap:
                found[-1] = Range(found[-1].first, number + 1)
            else:
                found.append(Range(number, number + 1))
        if len(found) <= MOST_RANGES:
            return [Range(span.first * STRETCH, span.last * STRETCH) for span in found]
        gap *= 2


def count_rows(
    engine: Engine,
    schema: str,
    plan: Plan,
    jobs: tuple[Job, ...],
    workers: int,
    checkpoint: Callable[[], None],
    within: Mapping[JobId, Sequence[Range]],
) -> dict[JobId, Counted]:
    """Every table's rows, *workers* ranges at a time; *checkpoint* is asked between them and may raise.

    *within*: the ranges of a table in which only the rows that are due are counted; one that is not named is counted as
    a whole.
    """
    parts: list[tuple[Job, Range, bool]] = []
    for job in jobs:
        with engine.begin() as connection:
            whole = [Range(0, heap_of(connection, job).blocks)]
        for found_in in within.get(job.identity, whole):
            only_due = job.identity in within
            parts += [(job, span, only_due) for span in ranges(found_in.last, COUNT_BLOCKS, found_in.first)]
    found = {job.identity: Counted() for job in jobs}
    for (job, _, _), counted in in_threads(
        workers, partial(_count, engine, schema, plan), parts, name="count", checkpoint=checkpoint
    ):
        found[job.identity] += counted
    return found


def _count(engine: Engine, schema: str, plan: Plan, part: tuple[Job, Range, bool]) -> Counted:
    job, span, only_due = part
    writer = writer_of(job, schema)
    with engine.begin() as connection:
        more = writer.more(connection, plan)
        key = row_key(connection, job)
    names = {
        "quarantine": sql.Identifier(schema, "quarantine"),
        "name": sql.Literal(job.identity),
        "key": key.text(),
    }
    if not key.columns:
        text = raw_text(job)
        names |= {
            "map": address_map.name(schema),
            "text": text,
            "may_be_address": may_be_address(text),
            "decodable": decodable(text),
            "too_long": sql.Literal(Reason.TOO_LONG.value),
            "undecodable": sql.Literal(Reason.UNDECODABLE.value),
        }
    statement = COUNT.format(
        raw=sql.Identifier(job.raw),
        left=LEFT.format(more=more),
        reasons=sql.SQL("array[{}]::bigint[]").format(
            sql.SQL(", ").join(OF_REASON.format(sql.Literal(one.value)) for one in Reason if not key.columns)
        ),
        stretch=sql.Literal(STRETCH),
        table=table(job),
        entry=(NAMED if key.columns else COUNTED).format(**names),
        unfinished=writer.unfinished,
        finished=writer.finished,
        in_range=span.holds("event"),
        # The form of a value is asked of no row that is not due: that costs more than to read it.
        which=due.condition(job) if only_due else due.EVERY_ROW,
    )
    with engine.begin() as connection:
        ((total, no_address, linked, quarantined, left, not_due, where, numbers),) = rows(
            connection, statement
        )
    reasons = Counter(
        {reason.value: number for reason, number in zip(Reason, numbers, strict=False) if number}
    )
    return Counted(total, no_address, linked, quarantined, not_due, left, tuple(where or ()), reasons)
