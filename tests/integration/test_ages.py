"""Which rows are old enough: for the writers by an index, for the judges row by row, for every type of time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2 import sql
from sqlalchemy import Connection, Engine, make_url

from backfill.database.connection import make_engine, rows, value
from backfill.database.preflight import ages as checks
from backfill.database.preflight.target import Purpose, open_target
from backfill.jobs import due
from backfill.plan import InPlaceJob, Plan
from backfill.verify import ages
from tests.databases import query

AFTER = timedelta(days=28)
COLUMNS = {  # by type: how a plan reads it
    "timestamptz": "t",
    "timestamp": {"column": "t", "zone": "Europe/Vienna"},
    "date": {"column": "t", "zone": "Europe/Vienna"},
    "day_or_so": {"column": "t", "zone": "America/Havana"},
    "integer": {"column": "t", "unit": "unix-s"},
    "bigint": {"column": "t", "unit": "unix-ms"},
}
# In Vienna the clocks are set back at 01:00 UTC on 25 October 2026, and forward on 28 March 2027; in Havana an hour
# of that day comes twice around midnight.
MOMENTS = [
    datetime(2026, 10, 24, 22, 0, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 10, tzinfo=UTC),
    datetime(2026, 11, 1, 4, 30, tzinfo=UTC),
    datetime(2026, 11, 1, 5, 30, 0, 500_000, tzinfo=UTC),
    datetime(2027, 3, 28, 1, 0, tzinfo=UTC),
    datetime(2027, 3, 28, 1, 20, 0, 1, tzinfo=UTC),
]
# Every ten minutes around each of those, a microsecond beside them, and what is no time or none that is meant.
FILL = """
    create table rows_{type} (id bigint generated always as identity primary key, t {type}, ip text);
    insert into rows_{type} (t)
    select distinct {value} from unnest(%s::timestamptz[]) as about,
                        generate_series(about - interval '30 hours', about + interval '30 hours', '10 minutes') as near,
                        unnest(array[interval '0', interval '1 microsecond', interval '-1 microsecond']) as beside,
                        lateral (select near + beside as at) as v;
    insert into rows_{type} (t) values (null), ({least}), ({most});
    create index on rows_{type} (t); analyze rows_{type};
"""
WILD = {"integer": ("-2147483648", "2147483647"), "bigint": ("-9223372036854775808", "9223372036854775807")}
VALUES = {
    "timestamptz": "at",
    "timestamp": "at at time zone 'Europe/Vienna'",
    "date": "(at at time zone 'Europe/Vienna')::date",
    "day_or_so": "(at at time zone 'America/Havana')::date",
    "integer": "floor(extract(epoch from at))::int",
    "bigint": "floor(extract(epoch from at) * 1000)::bigint",
}


def plan_of(kind: str, **keys: object) -> Plan:
    """A plan for one of the tables below."""
    least = {"table": f"rows_{kind}", "becomes": "nothing", "then": "keep", "raw": "ip", "unreadable": "keep"}
    return Plan.model_validate(
        {"name": "ages", "jobs": [least | {"time": COLUMNS[kind], "after": AFTER} | keys]}
    )


def job(kind: str, **keys: object) -> InPlaceJob:
    return plan_of(kind, **keys).in_place_jobs[0]


@pytest.fixture(scope="module")
def tables(databases) -> Iterator[Engine]:
    url = databases.create()
    query(url, "create domain day_or_so as date")
    for kind in COLUMNS:
        least, most = WILD.get(kind, ("'-infinity'", "'infinity'"))
        query(url, FILL.format(type=kind, value=VALUES[kind], least=least, most=most), MOMENTS)
    engine = make_engine(make_url(url), ledger_schema="backfill")
    yield engine
    engine.dispose()
    databases.drop(url)


@pytest.fixture
def connection(tables: Engine) -> Iterator[Connection]:
    with tables.connect() as connection:
        yield connection


def found(connection: Connection, kind: str, which: sql.Composable) -> list[str]:
    statement = sql.SQL("select event.t::text, {} is null from {} as event where {} order by 1")
    got = rows(connection, statement.format(which, sql.Identifier("public", f"rows_{kind}"), which))
    assert not any(unknown for _, unknown in got)
    return [text for text, _ in got]


@pytest.mark.parametrize("kind", COLUMNS)
def test_writers_and_judges_mean_the_same_rows_at_every_moment(connection, kind):
    for moment in MOMENTS:
        asked = job(kind)
        due_rows = found(connection, kind, due.condition(asked.at(moment + AFTER)))
        assert due_rows == found(connection, kind, ages.is_late(asked, moment + AFTER))
        unsaid = sql.SQL("({}) is null").format(due.condition(asked.at(moment + AFTER)))
        assert found(connection, kind, unsaid) == []  # of no row is it unknown, that without a time included
        assert (
            1
            < len(due_rows)
            < value(
                connection,
                sql.SQL("select count(*) from {}").format(sql.Identifier("public", f"rows_{kind}")),
            )
        )


def test_a_row_is_due_only_when_all_of_its_day_hour_or_second_is_over(connection):
    in_vienna = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30, for the first time
    due_rows = found(connection, "timestamp", due.older(job("timestamp"), in_vienna))
    assert max(text for text in due_rows if text < "3") == "2026-10-25 01:59:59.999999"  # 02:10 may be later
    due_rows = found(connection, "timestamp", due.older(job("timestamp"), in_vienna + timedelta(hours=1)))
    assert max(text for text in due_rows if text < "3") == "2026-10-25 02:29:59.999999"
    for hours, last in ((21.9, "2026-10-23"), (24.5, "2026-10-24"), (47, "2026-10-25")):
        moment = datetime(2026, 10, 24, tzinfo=UTC) + timedelta(hours=hours, microseconds=1)
        assert max(found(connection, "date", due.older(job("date"), moment))) == last
    fraction = datetime(2026, 10, 25, 1, 0, 0, 999_999, tzinfo=UTC)
    second = int(fraction.timestamp())
    assert str(second - 1) in found(connection, "integer", due.older(job("integer"), fraction))
    assert str(second) not in found(connection, "integer", due.older(job("integer"), fraction))


@pytest.mark.parametrize("kind", COLUMNS)
def test_an_index_on_the_time_is_used(connection, kind):
    which, name = due.older(job(kind), MOMENTS[0] - timedelta(hours=20)), f"rows_{kind}"
    for method in ("btree", "brin"):
        explained = f"""
            drop index public.{name}_t_idx; create index {name}_t_idx on public.{name} using {method} (t);
            set local enable_seqscan = off; explain
        """
        with connection.begin_nested():
            plan = rows(connection, sql.SQL(explained + " select from {} as event where {}").format(sql.Identifier("public", name), which))  # fmt: skip
        text = "\n".join(line for (line,) in plan)
        assert f"{name}_t_idx" in text
        (condition,) = {line for line in text.splitlines() if "Index Cond" in line}
        assert "timezone" not in condition, "the bound is a constant"


def findings(connection: Connection, plan: Plan, purpose: Purpose = Purpose.PLAN) -> dict[str, str]:
    target = open_target(connection, plan, "backfill", purpose, plan.jobs[0])
    assert target
    return {finding.code: finding.text for finding in checks.check(target)}


def test_a_time_that_is_read_wrongly_is_in_the_way(connection):
    connection.exec_driver_sql("delete from public.rows_timestamptz where t between now() and '2100-01-01'")
    as_it_is = findings(connection, plan_of("timestamptz"))
    assert set(as_it_is) == {"time-reading", "few-times-ahead"}
    assert "is read as a timestamp with time zone; its newest value is infinity" in as_it_is["time-reading"]
    assert as_it_is["few-times-ahead"].startswith("1 of ")
    assert set(findings(connection, plan_of("timestamptz"), Purpose.WRITE)) == {"few-times-ahead"}
    assert findings(connection, plan_of("timestamptz"), Purpose.READ) == {}
    connection.exec_driver_sql(
        "delete from public.rows_bigint where t not between 0 and extract(epoch from now()) * 1000"
    )
    connection.exec_driver_sql(
        "delete from public.rows_integer where t not between 0 and extract(epoch from now()); drop index public.rows_integer_t_idx"
    )
    for kind, unit, codes in (
        ("bigint", "unix-ms", set()),
        ("bigint", "unix-s", {"times-ahead"}),
        ("integer", "unix-s", {"no-time-index"}),
        ("integer", "unix-ms", {"no-time-index", "time-too-old"}),
    ):
        said = findings(connection, plan_of(kind, time={"column": "t", "unit": unit}))
        assert set(said) == {"time-reading"} | codes
    assert 'create index concurrently on "public"."rows_integer" using b' in said["no-time-index"]
    nowhere = plan_of("timestamp", time={"column": "t", "zone": "Europe/Nowhere"})
    assert set(findings(connection, nowhere)) == {"unknown-zone"}


def test_the_look_at_the_whole_table_counts_what_is_raw_late_without_time_and_in_the_future(database):
    query(database, """
        create table events (id int primary key, t timestamptz, ip text);
        insert into events values (1, now() - interval '40 days', '8.8.8.8'), (2, now() - interval '30 days', '8.8.4.4'),
            (3, now() - interval '50 days', null), (4, now() - interval '27 days', '8.8.8.8'), (5, null, '9.9.9.9'),
            (6, now() + interval '20 hours', '8.8.8.8'), (7, now() + interval '2 days', null), (8, null, null)
    """)  # fmt: skip
    engine = make_engine(make_url(database), ledger_schema="backfill")
    job_of = job("timestamptz").model_copy(update={"table": "events"})
    with engine.connect() as connection:
        seen = ages.look(connection, job_of, sql.SQL("event.ip is not null"))
        oldest = value(connection, sql.SQL("select t::text from public.events where id = 1"))
        newest = value(connection, sql.SQL("select t::text from public.events where id = 7"))
        assert (seen.rows, seen.raw, seen.late, seen.without_time, seen.ahead) == (8, 5, 2, 1, 1)
        assert (seen.oldest, seen.newest) == (oldest, newest)
        connection.exec_driver_sql("truncate public.events")
        empty = ages.look(connection, job_of, sql.SQL("event.ip is not null"))
        assert (empty.rows, empty.late, empty.oldest, empty.newest) == (0, 0, None, None)
        assert abs(empty.asked - datetime.now(UTC)) < timedelta(hours=1)
    engine.dispose()
