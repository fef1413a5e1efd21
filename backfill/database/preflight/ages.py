"""Ages: whether the time column of a job with ``after`` can be taken for what the plan says that it is.

A unit that is ten to the third off makes every row due, and what is rewritten in place is rewritten for good.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from psycopg2 import sql

from backfill.age.age import age_text
from backfill.age.time_column import TimeColumn, Unit
from backfill.database.connection import rows
from backfill.database.preflight.finding import Finding, blocks, changes, note
from backfill.database.preflight.target import Purpose, Target, relation_name
from backfill.database.quoting import quoted, table
from backfill.database.time_index import has_time_index
from backfill.plan import InPlaceJob

UNKNOWN_ZONE = blocks("unknown-zone")
TOO_OLD = blocks("time-too-old")
AHEAD = changes("times-ahead")
FEW_AHEAD = note("few-times-ahead")
READING = note("time-reading")
NO_INDEX = note("no-time-index")

TOO_MANY = 1_000  # one row in so many may be a clock that is wrong; more are a column that is read wrongly
CORRELATED = 0.9  # by then a block range index leads to few blocks
ENTRY_BYTES = 22  # of a btree over eight bytes, its pages nine tenths full
BLOCKS_PER_SUMMARY, SUMMARY_BYTES, FIXED_BYTES = 128, 32, 24_576  # of a BRIN

# What a value is compared with, as its type has it.
COMPARED = {
    None: "{moment}",
    Unit.SECONDS: "floor(extract(epoch from {moment}))::int8",
    Unit.MILLISECONDS: "floor(extract(epoch from {moment}) * 1000)::int8",
}
IN_ZONE = "timezone({zone}, {moment})"
NEWEST = sql.SQL("""
    select newest.time::text, newest.time < {year_2000}, ahead.number, now()::text,
           case when ahead.number > 0 then (select count(*) from {table}) end
      from (select max({time}) as time from {table} as event) as newest
     cross join (select count(*) as number from {table} as event where {time} > {tomorrow}) as ahead
""")
SIZES = """
    select c.relpages::bigint, greatest(c.reltuples, 0)::bigint, pg_relation_size(c.oid),
           coalesce((select abs(s.correlation) from pg_stats as s
                      where s.schemaname = n.nspname and s.tablename = c.relname and s.attname = %(name)s), 0)
      from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = %(table)s
"""


def check(target: Target) -> Iterator[Finding]:
    """Zone, newest time, times in the future; for ``plan`` how the time is read, and which index would help."""
    job = target.part
    if not isinstance(job, InPlaceJob) or job.after is None or job.time is None:
        return
    if target.purpose not in (Purpose.WRITE, Purpose.PLAN) or job.time.column not in target.columns:
        return
    if (
        job.time.zone is not None
        and not target.ask(
            "select exists (select from pg_timezone_names where lower(name) = lower(%(zone)s))",
            zone=job.time.zone,
        )[0][0]
    ):
        yield UNKNOWN_ZONE(
            target.column(job.time.column),
            f"This server knows no time zone {job.time.zone} ({job.name}.{job.time.column}).",
            "Name one of pg_timezone_names in the plan.",
        )
        return
    yield from _times(target, job, job.time)
    if target.purpose is Purpose.PLAN:
        yield from _index(target, job, job.time)


def _as_value(time: TimeColumn, moment: str) -> sql.Composable:
    """That moment, to be compared with a value."""
    if time.zone is not None:
        return sql.SQL(IN_ZONE).format(zone=sql.Literal(time.zone), moment=sql.SQL(moment))
    return sql.SQL(COMPARED[time.unit]).format(moment=sql.SQL(moment))


def _times(target: Target, job: InPlaceJob, time: TimeColumn) -> Iterator[Finding]:
    statement = NEWEST.format(
        year_2000=_as_value(time, "'2000-01-01 00:00:00+00'::timestamptz"),
        tomorrow=_as_value(time, "(now() + interval '1 day')"),
        time=sql.Identifier("event", time.column),
        table=table(job),
    )
    ((newest, before_2000, ahead, now, total),) = rows(target.connection, statement)
    subject, name = target.column(time.column), f"{job.name}.{time.column}"
    read_as = time.unit or (f"a time in zone {time.zone}" if time.zone else "a timestamp with time zone")
    if target.purpose is Purpose.PLAN:
        yield READING(
            subject,
            f"{name} is read as {read_as}; its newest value is {_shown(newest, time)}, and the server's time {now}. "
            f"What is older than {age_text(job.after) if job.after else ''} becomes {job.becomes}, for good.",
            "Check that the two times fit.",
        )
    if before_2000:
        yield TOO_OLD(
            subject,
            f"The newest value of {name} is {newest}, which is before 2000 if it is {read_as}: every row would be due.",
            "Correct unit or zone of the time in the plan, or name another column.",
        )
    if ahead and ahead * TOO_MANY > total:
        yield AHEAD(
            subject,
            f"{ahead:,} of {total:,} rows of {job.name} are more than a day in the future if {time.column} is {read_as}: "
            "they are not due for so much longer.",
            "Correct unit or zone of the time in the plan; or accept it.",
        )
    elif ahead:
        yield FEW_AHEAD(
            subject,
            f"{ahead:,} of {total:,} rows of {job.name} {'is' if ahead == 1 else 'are'} more than a day in the future, and not "
            "due before the age is reached from then on.",
            "Correct the time in the table where it is wrong.",
        )


def _shown(newest: str | None, time: TimeColumn) -> str:
    """A number beside the moment that it is read as: nobody sees in the number that its unit is wrong."""
    if newest is None or time.unit is None:
        return newest or "none"
    try:
        seconds = int(newest) // (1_000 if time.unit is Unit.MILLISECONDS else 1)
        return f"{newest} ({datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC)"
    except (OverflowError, ValueError, OSError):
        return f"{newest} (no date)"


def _index(target: Target, job: InPlaceJob, time: TimeColumn) -> Iterator[Finding]:
    if has_time_index(target.connection, job, time.column):
        return
    ((pages, number, size, correlation),) = target.ask(SIZES, name=time.column)
    method, cost = "btree", int(number) * ENTRY_BYTES
    if correlation >= CORRELATED:
        method, cost = "brin", FIXED_BYTES + int(pages) // BLOCKS_PER_SUMMARY * SUMMARY_BYTES
    yield NO_INDEX(
        target.column(time.column),
        f"No index leads to the old rows of {job.name}: each `backfill run --due` reads all of its {_megabytes(size)}.",
        f"create index concurrently on {relation_name(job)} using {method} ({quoted(time.column)}); about {_megabytes(cost)}"
        + (", since its rows lie in the order of their times." if method == "brin" else "."),
    )


def _megabytes(size: int) -> str:
    return f"{max(size / 1_000_000, 0.1):,.1f} MB"
