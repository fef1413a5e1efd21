"""Silence: a server that is stopped, or a line that swallows everything, is noticed; one that works for long is let be."""

import os
import signal
import time
from contextlib import closing, suppress

import psycopg2
import pytest
from psycopg2 import sql
from sqlalchemy import make_url

from backfill.database import watchdog
from backfill.database.connection import copy_in, driver, execute, make_engine, value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.timeouts import Timeouts
from tests.databases import connect, query
from tests.faults.cluster import PORT, Cluster
from tests.faults.conftest import SMALL
from tests.faults.silent import Line, processes, stopped
from tests.faults.stage import promised, stretched

SILENCE = 1.5
SLEEP = sql.SQL("select pg_sleep(600)")


@pytest.fixture(scope="module")
def server():
    """A server of these tests' own, on a socket and on TCP; the address is nobody else's."""
    address = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
    cluster = Cluster("silent")
    try:
        cluster.init().start(listen_addresses=address, max_connections=20)
        query(cluster.url(), "create table notes (id int, note text)")
        yield cluster, address
    finally:
        cluster.remove()


def url_of(host):
    return f"postgresql+psycopg2://backfill@/postgres?host={host}&port={PORT}"


@pytest.fixture
def silence():
    watchdog.configure(SILENCE)
    yield
    watchdog.configure(60.0)


def engine_of(url):
    return make_engine(make_url(url), ledger_schema="backfill")


def numbered():
    for number in range(10_000_000):
        yield (str(number), "x" * 1000)


def plain_select(connection, _go):
    _go()
    value(connection, SLEEP)


def lock_wait(connection, go):
    execute(connection, sql.SQL("set lock_timeout = 0"))
    with closing(connect(connection.engine.url.render_as_string(), autocommit=False)) as other:
        other.cursor().execute("lock table notes")
        go()
        value(connection, sql.SQL("select count(*) from notes"))


def copy_into(connection, go):
    execute(connection, sql.SQL("create temporary table many (id text, note text)"))
    go()
    copy_in(connection, sql.Identifier("many"), ("id", "note"), numbered())


def commit(connection, go):
    execute(connection, sql.SQL("insert into public.notes values (1, 'x')"))
    go()
    connection.commit()


@pytest.mark.parametrize("way", ["socket", pytest.param("tcp", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("work", [plain_select, lock_wait, copy_into, commit])
def test_a_server_that_is_stopped_is_given_up(server, silence, way, work):
    cluster, address = server
    url = url_of(address) if way == "tcp" else cluster.url()
    engine = engine_of(url)
    halts = []

    def go():
        # A moment later: the call is under way by then, or begins on a server that stands still.
        halts.append(stopped(processes(cluster)))
        halts[0].__enter__()
        halts.append(time.monotonic())

    connection = engine.connect()
    try:
        with pytest.raises(DRIVER_ERRORS, match="has not answered") as raised:
            work(connection, go)
        took = time.monotonic() - halts[1]
    finally:
        halts[0].__exit__(None, None, None)
        connection.invalidate()
        connection.close()
        engine.dispose()
    assert took < stretched(SILENCE * 4)
    assert ("whether this commit was done is unknown" in str(raised.value)) is (work is commit)
    cluster_is_whole(url)


def cluster_is_whole(url):
    """What was cut off has ended there as well."""
    end = time.monotonic() + stretched(20)
    while query(url, "select from pg_stat_activity where application_name = 'backfill'"):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_statement_that_lasts_is_let_be(server, silence):
    cluster, _ = server
    engine = engine_of(cluster.url())
    with engine.connect() as connection:
        assert value(connection, sql.SQL("select 1 from pg_sleep(8)")) == 1
    engine.dispose()


def test_a_server_without_a_free_slot_answers_all_the_same(server, silence):
    cluster, _ = server
    url = cluster.url()
    engine = engine_of(url)
    taken = []
    with engine.connect() as connection:
        with suppress(psycopg2.OperationalError):
            while len(taken) < 30:
                taken.append(connect(url))
        assert len(taken) < 30
        assert value(connection, sql.SQL("select 1 from pg_sleep(8)")) == 1
    for other in taken:
        other.close()
    engine.dispose()


def test_a_session_that_is_stopped_by_itself_is_given_up_before_it_begins(server, silence):
    cluster, _ = server
    engine = engine_of(cluster.url())
    connection = engine.connect()
    value(connection, sql.SQL("select 1"))
    with stopped([driver(connection).pid]), pytest.raises(psycopg2.OperationalError, match="has not begun"):
        value(connection, sql.SQL("select 2"))
    connection.invalidate()
    connection.close()
    engine.dispose()
    cluster_is_whole(cluster.url())


def test_a_session_that_is_stopped_at_work_is_given_up_after_its_timeout(server, silence, monkeypatch):
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 1.0)
    cluster, _ = server
    engine = engine_of(cluster.url())
    connection = engine.connect()
    Timeouts(statement=2.0).apply(connection)
    pid = driver(connection).pid
    query(cluster.url(), "select 1")
    began = time.monotonic()
    halt = stopped([pid])

    def read(_size):
        if not halt_begun:
            halt.__enter__()
            halt_begun.append(True)
        return b"1\tx\n" * 1000

    halt_begun: list[bool] = []
    source = type("Source", (), {"read": staticmethod(read)})()
    with pytest.raises(psycopg2.Error, match="did not end at its timeout of 2 s"):
        driver(connection).cursor().copy_expert("copy public.notes from stdin", source)
    halt.__exit__(None, None, None)
    assert time.monotonic() - began < stretched(8)
    connection.invalidate()
    connection.close()
    engine.dispose()
    cluster_is_whole(cluster.url())


def test_a_line_that_swallows_what_is_sent_is_given_up(server, silence):
    cluster, _ = server
    line = Line(f"{cluster.socket}/.s.PGSQL.{PORT}")
    engine = engine_of(f"postgresql+psycopg2://backfill@127.0.0.1:{line.port}/postgres")
    connection = engine.connect()
    value(connection, sql.SQL("select 1"))
    line.cut.set()
    began = time.monotonic()
    with pytest.raises(psycopg2.OperationalError, match="has not answered"):
        value(connection, sql.SQL("select 2"))
    assert time.monotonic() - began < stretched(SILENCE * 4)
    connection.invalidate()
    connection.close()
    engine.dispose()
    line.close()


@pytest.fixture
def still(primary):
    """``still()``: the server of a stage stands still for the block."""
    return lambda: stopped(processes(primary))


def test_a_run_outlives_a_server_that_stood_still(stage, still, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "10", silence="2")
    stage.until_linking()
    with still():
        stage.until_true(lambda: "The connection was lost" in command.said or "A worker" in command.said)
    assert command.end() == 0, command.said
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_run_ends_within_its_patience(stage, still, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "10", silence="2", patience="5")
    stage.until_linking()
    with still():
        began = time.monotonic()
        assert command.end() == 1
        # Silence 4, or 10 where a new connection meets it first; patience 5; two notes and the sensors' end, 2 or 3 each.
        assert time.monotonic() - began < stretched(30)
    assert "`backfill run` resumes it" in command.said
    stage.run(*SMALL)
    same_as_undisturbed(stage)


def test_a_run_is_ended_by_a_signal_although_the_server_says_nothing(stage, still, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "10")
    stage.until_linking()
    with still():
        time.sleep(1.5)
        began = time.monotonic()
        command.signal(signal.SIGTERM)
        assert command.end() == 143, command.said
        assert time.monotonic() - began < promised()
        assert "`backfill run` goes on from there" in command.said
    stage.run(*SMALL)
    same_as_undisturbed(stage)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "scan",
        "verify",
        pytest.param("plan", marks=pytest.mark.thorough),
        pytest.param("calibrate", marks=pytest.mark.thorough),
    ],
)
def test_a_command_ends_when_the_server_says_nothing(after_a_run, still, words):
    stage = after_a_run
    with closing(connect(stage.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("lock table user_events, team_events, ip_addresses in access exclusive mode")
        command = stage.start(words, silence="2")
        stage.until(
            "exists (select from pg_stat_activity where application_name = 'backfill' and wait_event_type = 'Lock')"
        )
        with still():
            began = time.monotonic()
            assert command.end() in (1, 2), command.said
            assert time.monotonic() - began < stretched(15)
            assert "the server has not answered for 2 s" in command.said
            assert "Traceback" not in command.said


@pytest.mark.slow
def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(stage, still):
    with still():
        began = time.monotonic()
        said = stage.call("status", expect=2)
        assert time.monotonic() - began < stretched(15) + 5
        assert "timeout expired" in said
