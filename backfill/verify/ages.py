"""Ages: how old the raw values of a job with ``after`` are, by one look at the whole table.

The writers ask an index whether a row is due; here every value of the time column is made a moment, row by row, and
the moment of the look is the server's own. What is found is said of one snapshot of the table's rows, and of nothing
else (``NOT_LOOKED_AT``).
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import MAX_LENGTH
from backfill.age.time_column import TimeColumn, Unit
from backfill.database.connection import driver, value
from backfill.database.decodable import decodable
from backfill.database.quoting import table
from backfill.ledger.counts import Count
from backfill.plan import InPlaceJob
from backfill.verify import forms
from backfill.verify.values import classify_value, may_hold_address

NOT_LOOKED_AT = "free space and other bytes of its files, indexes, statistics, WAL, copies and subscribers"

# The moment by which a value was certainly written. A date: the day is over. A number: so is its second or millisecond.
# A date or time for which the server has no such moment in every zone is before, or after, all moments.
ZONED = sql.SQL("""case when {time} < '4000-01-01 BC' then '-infinity'::timestamptz when {time} > '290000-01-01' then 'infinity'::timestamptz
    else timezone({zone}, case when pg_typeof({time}) = 'timestamp'::regtype then {time}::timestamp
                               else {time}::date::timestamp + interval '1 day' end) end""")
# Far from any year that is meant, and not so far that the server has no such moment. LEAST knows no NULL.
NUMBER = sql.SQL("""case when {time} is not null
    then to_timestamp(least(greatest({time}::numeric / {per_second}, -6e10), 2.5e11) + 1.0 / {per_second} - 0.000001) end""")
PER_SECOND = {Unit.SECONDS: 1, Unit.MILLISECONDS: 1000}

# A group for all that is no raw value, one for plain addresses, and one for each other text that a plan may keep: the
# client alone can tell whether that is an address. The inner query is not flattened (offset 0), or each row would work
# out its moment several times.
LOOK = sql.SQL("""
    select raw, cardinality(odd), odd[1], count(*),
           count(*) filter (where written < now() - {after} * interval '1 second'),
           min(written)::text, extract(epoch from min(written))::float8, row_number() over (order by min(written) nulls last), max(max(written)) over ()::text,
           count(*) filter (where written is null),
           count(*) filter (where written > now() + interval '1 day')
      from (select raw, written, case when raw and {is_odd} then array[case when {decodable} then left({text}, {shown}) end] end as odd
              from (select {written} as written, coalesce({raw}, true) as raw, {value} as value
                      from {table} as event
                    offset 0) as seen) as event
     group by raw, odd
""")
FETCHED = 10_000  # texts at a time
SUMMED = ("rows", "raw", "late", "without_time", "ahead", "kept", "kept_late")


@dataclass(frozen=True)
class Ages:
    """What was seen of a job's table. *oldest* and *newest* as the server writes moments; None: there is none."""

    asked: datetime  # the moment of the look, by the server's clock
    rows: int
    raw: int  # rows with a raw value
    late: int  # of those, older than ``after``
    oldest: str | None  # of the raw ones
    newest: str | None  # of all rows
    without_time: int  # raw, with no time: never due
    ahead: int  # rows of more than a day in the future: not due for long
    oldest_epoch: float | None = None  # the same in seconds since 1970, which may be infinite
    kept: int = 0  # rows with a text that is no address, which the plan keeps
    kept_late: int = 0  # of those, older than ``after``, and an address may stand in the text

    @property
    def is_late(self) -> bool:
        """An address may be older than it is allowed to be."""
        return self.late + self.kept_late > 0


def moment_of(time: TimeColumn, alias: str = "event") -> sql.Composable:
    """The moment by which the row was written for certain, as a timestamp with time zone."""
    column = sql.Identifier(alias, time.column)
    if time.unit is not None:
        return NUMBER.format(time=column, per_second=sql.Literal(PER_SECOND[time.unit]))
    if time.zone is not None:
        return ZONED.format(zone=sql.Literal(time.zone), time=column)
    return column


def is_late(job: InPlaceJob, now: datetime, alias: str = "event") -> sql.Composable:
    """The row is older than ``after`` at the moment *now*; false without a time. Every row is, without ``after``."""
    if job.after is None or job.time is None:
        return sql.SQL("true")
    return sql.SQL("coalesce({} < {}::timestamptz, false)").format(
        moment_of(job.time, alias), sql.Literal((now - job.after).isoformat())
    )


def still_raw(connection: Connection, job: InPlaceJob, prefix: int | None) -> sql.Composable:
    """``event`` holds a value that has not the form of what it becomes.

    The form is all that a server can tell. A text that a client made up with the *prefix* of pseudonyms has it, and
    ``verify``, which knows the salt, counts it.
    """
    return sql.SQL("({} is not null and not {})").format(
        sql.Identifier("event", job.raw), forms.in_form(job, forms.value_text(connection, job), prefix)
    )


def look(connection: Connection, job: InPlaceJob, raw: sql.Composable) -> Ages:
    """All rows of the job's table, in one statement. *raw*: ``event`` holds a value that is not what it becomes.

    Texts that are no plain address come to the client where the plan keeps what is none, which says which are.
    """
    if job.after is None or job.time is None:
        raise RuntimeError(f"{job.label} has no age")
    text, asks = sql.Identifier("seen", "value"), job.unreadable == "keep"
    statement = LOOK.format(
        after=sql.Literal(int(job.after.total_seconds())),
        written=moment_of(job.time),
        raw=raw,
        is_odd=sql.SQL("not {}").format(forms.is_plain_address(text)) if asks else sql.SQL("false"),
        decodable=decodable(text),
        text=text,
        value=forms.value_text(connection, job) if asks else sql.SQL("null::text"),
        shown=sql.Literal(MAX_LENGTH + 1),
        table=table(job),
    )
    sums: Counter[str] = Counter()
    oldest, newest = None, None
    with driver(connection).cursor(name="backfill_ages") as cursor:
        cursor.itersize = FETCHED
        cursor.execute(statement)
        for is_raw, odd, shown, number, late, first, epoch, place, last, without_time, ahead in cursor:
            sums.update(rows=number, ahead=ahead)
            newest = last
            if not is_raw:
                continue
            found = Count.STILL_RAW if odd is None else classify_value(job, shown, None)[0]
            if found is Count.IN_FORM:  # the constant, or a network, in another spelling
                continue
            if found is Count.KEPT_UNREADABLE:
                sums.update(kept=number, kept_late=late if may_hold_address(shown) else 0)
                continue
            sums.update(raw=number, late=late, without_time=without_time)
            if first is not None:
                oldest = min(oldest or (place, first, epoch), (place, first, epoch))
    return Ages(
        asked=value(connection, sql.SQL("select now()")),
        oldest=oldest[1] if oldest else None,
        oldest_epoch=oldest[2] if oldest else None,
        newest=newest,
        **{name: sums[name] for name in SUMMED},
    )
