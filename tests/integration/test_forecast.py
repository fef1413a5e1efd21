"""What ``plan`` predicts, what it touches for that, and what ``status`` says of it afterwards."""

import json
from contextlib import closing

import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.engine.estimate import sampler
from backfill.engine.estimate.sample import Sample, SampleFailed
from backfill.engine.estimate.sampler import Sampler
from backfill.geo.sources import open_geo
from backfill.jobs.resolver import Resolver
from backfill.plan import PYPI
from tests import rewritten
from tests.databases import connect, query
from tests.demo_template import GEO_PATH, TABLES, digest, environment, fill_demo, live_hash
from tests.operator import Operator

EVENTS = 25_000
MB = 1024 * 1024

# Everything that could have been touched: where each file is, how large, every row; and who is there.
STATE = """
    select c.oid::regclass::text, pg_relation_filenode(c.oid)::text, pg_relation_size(c.oid)::text, c.relkind::text
      from pg_class as c where relnamespace in ('public'::regnamespace) or c.oid::regclass::text like 'backfill%'
     order by 1
"""


def state(url: str) -> list[str]:
    rows = [
        digest(query(url, f"select t::text from {name} as t order by 1"))
        for name in (*TABLES, "ip_addresses")
    ]
    return [digest(query(url, STATE)), *rows]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sample may take on a machine that runs other tests meanwhile; one test looks at the limit itself."""
    monkeypatch.setattr(sampler, "SECONDS", 60.0)


@pytest.fixture(scope="module")
def large_demo(databases, home) -> Operator:
    databases.template("large demo", lambda url: fill_demo(url, EVENTS))
    url = databases.clone("large demo")
    yield Operator(url, environment(url, home))
    databases.drop(url)


def forecast_of(operator: Operator) -> tuple[dict, dict]:
    found = json.loads(operator.types("status", "--format", "json").out)
    return found["forecast"], found["outcome"]


@pytest.mark.parametrize("strategy", ["in-place", "shadow"])
def test_the_prediction_is_of_the_order_of_the_fact(
    databases, home, large_demo: Operator, strategy: str
) -> None:
    url = databases.copy(large_demo.url)
    operator = Operator(url, environment(url, home))
    hold = ["--postpone-cutover"] if strategy == "shadow" else []
    operator.types("run", "--quiet", "--strategy", strategy, *hold)
    predicted, fact = forecast_of(operator)
    for what, within in (("wal", 2.5), ("growth", 2.5), ("seconds", 8)):  # others use this machine, too
        assert fact[what] / within <= predicted[what] <= fact[what] * within, (what, predicted, fact)
    said = operator.types("status").out
    assert f"{fact['wal'] / MB:,.0f} MB of WAL" in said
    assert "predicted were" in said
    databases.drop(url)


def test_plan_tells_the_cost_of_both_strategies_and_leaves_everything_as_it_was(large_demo: Operator) -> None:
    before = state(large_demo.url)
    wal = query(large_demo.url, "select pg_current_wal_lsn()")[0][0]
    said = large_demo.types("plan").out
    for table in TABLES:
        told = [line.split()[1] for line in said.splitlines() if line.startswith(f"{table}  ")]
        assert told[-2:] == ["in-place", "shadow"]
    assert "Recommended for" in said
    assert state(large_demo.url) == before
    written = query(large_demo.url, "select pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", wal)[0][0]
    assert written < 8 * MB  # the catalog's: temporary tables have entries there as well
    left = query(large_demo.url, "select count(*) from pg_class where relpersistence = 't'")
    assert left == [(0,)]


def test_plan_measures_nothing_when_told_so(fresh_demo: Operator) -> None:
    said = fresh_demo.types("plan", "--no-sample").out
    assert "Recommended" not in said
    assert "longest lock" not in said


VALUES = """
    create table {name} (id bigint generated always as identity primary key, ip {type}, agent text, hashed text, place jsonb,
        at timestamptz default now());
    insert into {name} (ip, agent)
    select (array['81.2.69.142', '2a02:cf40::1', '8.8.8.8'])[1 + n % 3]::inet + n % 5000, 'agent ' || n
      from generate_series(1, 40000) as n;
    update {name} set at = now() - '9 days'::interval where id % 2 = 0; {more}; vacuum full {name}; analyze {name}
"""
OF_VALUES = (
    ({"becomes": "pseudonym", "unreadable": "refuse", "geo": "place"}, "text", ""),
    ({"becomes": "network", "unreadable": "refuse"}, "inet", "create index on {name} (ip)"),
    (
        {"becomes": "hash", "unreadable": "refuse", "on_duplicate": "refuse"},
        "text",
        "create unique index on {name} (id, ip) nulls not distinct",
    ),
    ({"becomes": "hash", "into": "hashed"}, "text", ""),
    ({"becomes": "hash", "unreadable": "refuse", "time": "at", "after": "3 days"}, "text", ""),
)


def test_what_values_cost_is_predicted_as_well(database: str, home, tmp_path) -> None:
    if query(database, "select current_setting('server_version_num')::int < 150000")[0][0]:
        pytest.skip("NULLS NOT DISTINCT came with 15")
    jobs = []
    for number, (keys, type_, more) in enumerate(OF_VALUES):
        name = f"kind_{number}"
        for statement in VALUES.format(name=name, type=type_, more=more.format(name=name)).split(";"):
            if statement.strip():
                query(database, statement)
        jobs.append({"table": name, "raw": "ip", **keys})
    operator = rewritten.operator(database, home, rewritten.plan_file(tmp_path, *jobs))
    operator = operator.having(geoip_db=str(GEO_PATH))
    before = query(database, STATE)
    said = operator.types("plan").out
    assert "no prediction" not in said
    assert "kind_2: what a run takes to compare rows under a unique index comes on top of it." in said
    assert "Recommended" not in said  # there is nothing to choose
    assert query(database, STATE) == before
    assert query(database, "select count(*) from pg_class where relpersistence = 't'") == [(0,)]
    for job in jobs:
        if "into" in job:
            operator.types("run", job["table"], "--quiet")
        else:
            rewritten.run(operator, job["table"], "--quiet")
        predicted, fact = forecast_of(operator)
        for what, within in (("wal", 2.5), ("growth", 2.5), ("seconds", 8)):  # others use this machine, too
            assert fact[what] / within <= predicted[what] <= fact[what] * within, (job, what, predicted, fact)
    # By now there is nothing to be written, and a sample knows it.
    costs = json.loads(operator.types("plan", "--format", "json").out)["costs"]
    assert len(costs) == len(jobs)
    for cost in costs:
        assert cost["strategies"]["in-place"]["growth"] < 0.5 * MB, cost


def test_values_without_a_sample_are_not_predicted(database: str, home, tmp_path) -> None:
    rewritten.table(database, "visits", "text", rewritten.TEXTS)
    plan = rewritten.plan_file(tmp_path, {"table": "visits", "raw": "ip", "becomes": "nothing", "then": "keep", "unreadable": "keep"})  # fmt: skip
    operator = rewritten.operator(database, home, plan)
    rewritten.run(operator, "--quiet", "--no-sample")
    assert "nothing was predicted" in operator.types("status").out


def take(operator: Operator, user: str | None = None) -> Sample:
    url = make_url(operator.url)
    engine = make_engine(url.set(username=user) if user else url, ledger_schema="backfill")
    try:
        with open_geo(GEO_PATH, PYPI.geo.keys) as geo:
            links = Resolver(live_hash, geo)
            return Sampler(engine, 8, addresses=PYPI.addresses, links=links).take(PYPI.jobs[0])
    finally:
        engine.dispose()


def test_a_table_that_is_locked_keeps_nobody_waiting(fresh_demo: Operator) -> None:
    with closing(connect(fresh_demo.url, autocommit=False)) as other:
        other.cursor().execute("lock table user_events in access exclusive mode")
        with pytest.raises(SampleFailed, match="lock timeout"):
            take(fresh_demo)
        other.rollback()
    assert take(fresh_demo).written > 1_000


def test_a_sample_that_takes_too_long_is_left_and_the_plan_says_so(
    fresh_demo: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "SECONDS", 0.0)
    said = fresh_demo.types("plan", "team_events").out
    assert "team_events: no prediction, since a sample of 32 blocks took more than 0 s" in said
    assert "Nothing is in the way" in said


def test_a_role_without_temporary_tables_is_told_so(fresh_demo: Operator) -> None:
    (name,) = query(fresh_demo.url, "select current_database()")[0]
    query(
        fresh_demo.url,
        f"""do $$ begin create role reader_of_plans login; exception when duplicate_object then null; end $$;
            revoke temporary on database {name} from public""",
    )
    with pytest.raises(SampleFailed, match="may not make temporary tables"):
        take(fresh_demo, "reader_of_plans")


def test_no_value_of_the_sample_is_kept_in_the_catalog(large_demo: Operator) -> None:
    large_demo.types("plan")
    # ANALYZE of a temporary table would write its values there, and from there to the log of changes.
    assert query(
        large_demo.url, "select count(*) from pg_statistic where starelid not in (select oid from pg_class)"
    ) == [(0,)]


def test_a_run_without_a_sample_says_that_nothing_was_predicted(fresh_demo: Operator) -> None:
    fresh_demo.types("run", "--quiet", "--no-sample")
    said = fresh_demo.types("status").out
    assert "nothing was predicted" in said
    assert "So far it took" in said
