"""Sensors on a real server: each holds when its limit is passed, and a failing one holds as well."""

import signal
import threading
import time
from contextlib import closing

import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.engine.throttle import monitor, sensors
from backfill.engine.throttle.active_sessions import ActiveSessions
from backfill.engine.throttle.archive_backlog import ArchiveBacklog
from backfill.engine.throttle.lock_waiters import LockWaiters
from backfill.engine.throttle.monitor import decide
from backfill.engine.throttle.old_snapshot import OldSnapshot
from backfill.engine.throttle.operator_query import OperatorQuery
from backfill.engine.throttle.replay_lag import ReplayLag
from backfill.engine.throttle.sensor import Breach
from backfill.engine.throttle.wal_rate import WalRate
from backfill.settings import Settings
from tests.databases import connect, query
from tests.faults.conftest import SMALL
from tests.faults.stage import promised


@pytest.fixture
def ours(database):
    engine = make_engine(make_url(database), ledger_schema="backfill")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_wal_rate(ours, database):
    sensor = WalRate(1.0)
    assert decide([sensor], ours) is None
    query(database, "create table t as select repeat('x', 1000) from generate_series(1, 20000)")
    breach = decide([sensor], ours)
    assert breach is not None
    assert "MB of WAL a second, limit 1 MB" in breach.reason


def test_archive_backlog(ours):
    assert decide([ArchiveBacklog(0)], ours) is None
    breach = decide([ArchiveBacklog(-1)], ours)
    assert breach == Breach("archive-backlog", "0 WAL files wait for the archiver, limit -1")


def test_sessions_that_wait_for_locks_of_ours(ours, database):
    query(database, "create table t (n int)")
    ours.exec_driver_sql("lock table public.t")
    waiter = threading.Thread(target=query, args=(database, "insert into t values (1)"))
    waiter.start()
    another = make_engine(make_url(database), ledger_schema="backfill")
    with another.connect() as connection:
        end = time.monotonic() + 20
        while (breach := decide([LockWaiters(0)], connection)) is None and time.monotonic() < end:
            time.sleep(0.05)
        assert breach == Breach("lock-waiters", "1 sessions wait for locks that we hold, limit 0")
        assert decide([LockWaiters(1)], connection) is None
    ours.rollback()
    waiter.join()
    another.dispose()


def test_active_sessions(ours, database):
    with closing(connect(database)) as other, other.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        sleeper = threading.Thread(target=query, args=(database, "select pg_sleep(1.5)"))
        sleeper.start()
        time.sleep(0.5)
        breach = decide([ActiveSessions(0)], ours)
        sleeper.join()
    assert breach is not None
    assert "other sessions are active, limit 0" in breach.reason


def test_the_operators_query(ours):
    assert decide([OperatorQuery("select false")], ours) is None
    breach = decide([OperatorQuery("select true")], ours)
    assert breach == Breach("operator-query", "BACKFILL_THROTTLE_QUERY says to hold")


@pytest.mark.parametrize(
    ("query_text", "what"),
    [
        ("select null::boolean", "NULL"),
        ("select true where false", "no row"),
        ("select 1", "a value of type int"),
    ],
)
def test_an_answer_that_is_neither_true_nor_false_holds_as_well(ours, query_text, what):
    breach = decide([OperatorQuery(query_text)], ours)
    assert breach is not None
    assert breach.reason == f"BACKFILL_THROTTLE_QUERY returned {what}, neither true nor false"


def test_a_watch_that_is_cut_off_holds_and_lets_go_when_it_can_look_again(after_a_run, monkeypatch):
    """Only its own sessions are in trouble; the workers' are not, and would go on unwatched."""
    monkeypatch.setattr(monitor, "BLIND_SECONDS", 0.2)
    stage = after_a_run
    engine = make_engine(make_url(stage.url), ledger_schema="backfill")
    theirs = monitor.SensorMonitor(engine, "backfill", [], None)
    ours, theirs._engine = (
        theirs._engine,
        make_engine(make_url(stage.url).set(database="nowhere"), ledger_schema="backfill"),
    )
    theirs._thread = threading.Thread(target=theirs._loop, args=(1,), daemon=True)
    theirs._thread.start()
    stage.until("(select throttled like 'the sensors could not be asked%' from backfill.runs)")
    theirs._engine = ours
    stage.until("(select throttled is null from backfill.runs)")
    theirs.stop()
    engine.dispose()


def test_a_sensor_that_fails_holds_and_the_first_breach_is_the_one_told(ours):
    breach = decide([OperatorQuery("select from nowhere"), OperatorQuery("select true")], ours)
    assert breach is not None
    assert "sensor operator-query cannot look" in breach.reason

    class Broken:
        name = "broken"

        def check(self, connection):
            raise ZeroDivisionError

    breach = decide([Broken()], ours)
    assert breach == Breach("broken", "sensor broken cannot look: ZeroDivisionError")


def test_replay_lag_counts_from_the_moment_the_primary_went_on(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("backfill.engine.throttle.replay_lag.time.monotonic", lambda: clock[0])
    sensor = ReplayLag(1.5)
    state = {"now": 1000, "standby": 1000}
    monkeypatch.setattr(
        "backfill.engine.throttle.replay_lag.value", lambda connection, statement: state["now"]
    )
    monkeypatch.setattr(
        "backfill.engine.throttle.replay_lag.rows",
        lambda connection, statement: [("b", state["standby"], "streaming")],
    )
    assert sensor.check(None) is None
    clock[0], state["now"] = 101.0, 2000  # replay is paused from here
    assert sensor.check(None) is None
    clock[0] = 105.2
    assert sensor.check(None) == Breach("replay-lag", "replica b lags 4.2 s, limit 1.5 s")
    state["standby"] = 2000
    assert sensor.check(None) is None


def test_who_keeps_an_old_snapshot(ours, database):
    assert OldSnapshot(0.2).holder(ours) is None
    ours.rollback()
    with closing(connect(database, autocommit=False)) as other, other.cursor() as cursor:
        other.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("set application_name = 'a long report'")
        cursor.execute("select 1")
        time.sleep(0.4)
        holder = OldSnapshot(0.2).holder(ours)
        other.rollback()
    assert holder is not None
    assert "a long report" in holder


def test_the_settings_choose_the_sensors():
    names = [sensor.name for sensor in sensors.sensors(Settings.load())]
    assert names == ["replay-lag", "lock-waiters"]
    everything = Settings.load(
        max_archive_backlog=1, max_wal_rate=1, max_active_sessions=1, throttle_query="select true"
    )
    assert [sensor.name for sensor in sensors.sensors(everything)] == [
        "replay-lag",
        "lock-waiters",
        "archive-backlog",
        "wal-rate",
        "active-sessions",
        "operator-query",
    ]


def test_a_run_is_held_from_the_start_and_in_the_middle_and_goes_on(stage, same_as_undisturbed):
    stage.query("create table hold as select true as held")
    command = stage.start(
        "run", "--quiet", *SMALL, "--nice", "10", throttle_query="select held from public.hold"
    )
    stage.until("(select throttled is not null from backfill.runs)")
    assert stage.value("select coalesce(sum(rows), 0) from backfill.batches") == 0
    stage.query("update hold set held = false")
    stage.until_linking()
    stage.query("update hold set held = true")
    stage.until("(select throttled is not null from backfill.runs)")
    assert stage.status()["waiting"] == "BACKFILL_THROTTLE_QUERY says to hold"
    time.sleep(0.5)
    written = stage.value("select sum(written) from backfill.batches")
    time.sleep(1)
    assert stage.value("select sum(written) from backfill.batches") == written
    stage.query("update hold set held = false")
    assert command.end() == 0, command.said
    same_as_undisturbed(stage)


def test_a_hold_that_nobody_remembers_is_let_go(stage, same_as_undisturbed):
    """As it stands on a promoted standby to which the letting go never came."""
    command = stage.start("run", "--quiet", *SMALL, "--nice", "10")
    stage.until_linking()
    stage.query("update backfill.runs set throttled = 'replica b lags 9 s', throttled_since = now()")
    stage.until("(select throttled is null and throttled_since is null from backfill.runs)")
    assert command.end() == 0, command.said
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_held_run_stops_within_two_seconds(stage):
    command = stage.start("run", "--quiet", *SMALL, throttle_query="select true")
    stage.until("(select throttled is not null from backfill.runs)")
    began = time.monotonic()
    command.signal(signal.SIGTERM)
    assert command.end() == 3
    assert time.monotonic() - began < promised()
