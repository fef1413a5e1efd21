"""Due: which rows of a job are old enough, as SQL for its writer.

The bare column is compared with a constant of its type, so that an index on it is used. The moment is the run's, on
record, and not that of the statement: a run that is resumed, and all of its workers, mean the same rows. Where the
value leaves it open (a date, an hour that comes twice, a fraction that was cut off), the row waits until it is old
enough for certain. NULL is never due, nor is anything in the future.

Like all SQL of writers it may stand under the application's search_path.
"""

from datetime import UTC, datetime, timedelta

from psycopg2 import sql

from backfill.age.time_column import Unit
from backfill.plan import InPlaceJob, Job

EVERY_ROW = sql.SQL("true")
DUE = sql.SQL("({time} is not null and {time} OPERATOR(pg_catalog.<) {before})")
# The first comparison is for the index, and holds for every row for which the second does; the second knows of hours
# that come twice, of which it takes the later one. A date, and a domain over whatever: the day has to be over. Far from
# any year that is meant, the server has no such moment in every zone: it is asked for none.
DUE_IN_ZONE = sql.SQL("""({time} is not null
    and {time} OPERATOR(pg_catalog.<) pg_catalog.timezone({zone}, {before})
    and case when {time} OPERATOR(pg_catalog.<) '4000-01-01 BC' then true
             when {time} OPERATOR(pg_catalog.>) '290000-01-01' then false
             else pg_catalog.timezone({zone},
            case when pg_catalog.pg_typeof({time}) OPERATOR(pg_catalog.=) 'pg_catalog.timestamp'::pg_catalog.regtype
                 then {time}::pg_catalog.timestamp
                 else pg_catalog.date_trunc('day', {time}::pg_catalog.timestamp) OPERATOR(pg_catalog.+) {day} end)
        OPERATOR(pg_catalog.<) {before} end)""")
DAY = sql.SQL("'1 day'::pg_catalog.interval")
SINCE_1970 = datetime(1970, 1, 1, tzinfo=UTC)
STEP = {Unit.SECONDS: timedelta(seconds=1), Unit.MILLISECONDS: timedelta(milliseconds=1)}


def condition(job: Job, alias: str = "event") -> sql.Composable:
    """The row is due, at the moment of the run. Never NULL."""
    if not isinstance(job, InPlaceJob) or job.after is None:
        return EVERY_ROW
    if job.moment is None:
        raise RuntimeError(f"{job.label}: which rows are due is asked in a run, which has a moment")
    return older(job, job.moment - job.after, alias)


def older(job: InPlaceJob, than: datetime, alias: str = "event") -> sql.Composable:
    """The row was written before *than*, for certain. Never NULL."""
    if job.time is None:
        raise RuntimeError(f"{job.label}: no column tells how old a row is")
    time = sql.Identifier(alias, job.time.column)
    if job.time.unit is not None:
        # A value stands for the second, or millisecond, that begins with it: that one has to be over.
        number = (than - SINCE_1970) // STEP[job.time.unit]
        return DUE.format(time=time, before=sql.SQL("({}::pg_catalog.int8)").format(sql.Literal(number)))
    before = sql.SQL("({}::pg_catalog.timestamptz)").format(sql.Literal(than.isoformat()))
    if job.time.zone is None:
        return DUE.format(time=time, before=before)
    return DUE_IN_ZONE.format(time=time, before=before, zone=sql.Literal(job.time.zone), day=DAY)
