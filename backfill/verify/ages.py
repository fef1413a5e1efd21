"""Ages: how old the raw values of a job with ``after`` are, by one look at the whole table.

The writers ask an index whether a row is due; here every value of the time column is made a moment, row by row, and
the moment of the look is the server's own. What is found is said of one snapshot of the table's rows, and of nothing
else (``NOT_LOOKED_AT``).
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.age.time_column import TimeColumn, Unit
from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.plan import InPlaceJob
from backfill.verify import forms

NOT_LOOKED_AT = "free space and other bytes of its files, indexes, statistics, WAL, copies and subscribers"

# The moment by which a value was certainly written. A date: the day is over. A number: so is its second or millisecond.
ZONED = sql.SQL("""timezone({zone}, case when pg_typeof({time}) = 'timestamp'::regtype then {time}::timestamp
                                    else {time}::date::timestamp + interval '1 day' end)""")
# Far from any year that is meant, and not so far that the server has no such moment. LEAST knows no NULL.
NUMBER = sql.SQL("""case when {time} is not null
    then to_timestamp(least(greatest({time}::numeric / {per_second}, -6e10), 2.5e11) + 1.0 / {per_second} - 0.000001) end""")
PER_SECOND = {Unit.SECONDS: 1, Unit.MILLISECONDS: 1000}

LOOK = sql.SQL("""
    select now(), count(*),
           count(*) filter (where raw),
           count(*) filter (where raw and written < now() - {after} * interval '1 second'),
           min(written) filter (where raw)::text,
           max(written)::text,
           count(*) filter (where raw and written is null),
           count(*) filter (where written > now() + interval '1 day')
      from (select {written} as written, coalesce({raw}, true) as raw from {table} as event) as event
""")


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
    ``verify``, which knows the salt, counts it; one that is no address and was kept has it not, and counts as raw.
    """
    return sql.SQL("({} is not null and not {})").format(
        sql.Identifier("event", job.raw), forms.in_form(job, forms.value_text(connection, job), prefix)
    )


def look(connection: Connection, job: InPlaceJob, raw: sql.Composable) -> Ages:
    """All rows of the job's table, in one statement. *raw*: ``event`` holds a value that is not what it becomes."""
    if job.after is None or job.time is None:
        raise RuntimeError(f"{job.label} has no age")
    statement = LOOK.format(
        after=sql.Literal(int(job.after.total_seconds())),
        written=moment_of(job.time),
        raw=raw,
        table=table(job),
    )
    ((asked, total, values, late, oldest, newest, without_time, ahead),) = rows(connection, statement)
    return Ages(asked, total, values, late, oldest, newest, without_time, ahead)
