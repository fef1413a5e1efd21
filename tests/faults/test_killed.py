"""Killed: the client, its workers, its sessions, the server. The end is that of an undisturbed run."""

import os
import random
import signal
import time
import uuid
from contextlib import closing, suppress

import psycopg2
import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.database.timeouts import Timeouts
from backfill.engine.run_batch import RetryPolicy, run_batch
from backfill.jobs import apply
from backfill.ledger import claims
from backfill.ledger.claims import LeaseLost, Stopped
from backfill.plan import PYPI
from tests.databases import connect, query
from tests.faults.conftest import SMALL
from tests.faults.stage import kill_group, promised, worker_of_a_batch

HOLDER = """
    select lock.pid from pg_locks as lock join backfill.locks as entry
        on entry.name = 'run' and lock.objid::bigint = entry.key & 4294967295
     where lock.locktype = 'advisory' and lock.granted
"""


@pytest.mark.parametrize(
    "moments", [pytest.param(20, marks=pytest.mark.thorough), pytest.param(2)], ids=["20 times", "twice"]
)
def test_sigkill_of_the_client_at_random_moments(stage, same_as_undisturbed, moments):
    chance, hit = random.Random(3), 0
    for number in range(moments):
        command = stage.start("run", "--quiet", *SMALL, "--nice", "100")
        stage.until_true(lambda run=command: run.process.poll() is not None or _driven(stage))
        time.sleep(chance.uniform(0, 0.8))
        if command.process.poll() is not None:
            break  # it was done, which is no fault
        kill_group(command) if number % 2 else command.kill()
        hit += 1
    assert hit > moments / 2
    if not stage.query("select 1 from backfill.runs where status = 'succeeded'"):
        stage.run(*SMALL)
    same_as_undisturbed(stage)


def _driven(stage):
    return bool(stage.query(HOLDER))


def test_a_worker_that_is_killed_is_replaced_without_an_operator(stage, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "20")
    for number in (1, 2):
        _, worker = worker_of_a_batch(stage)
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        stage.until(f"(select (retries ->> 'worker-lost')::int >= {number} from backfill.runs)")
    assert command.end() == 0, command.said
    assert stage.value("select attempts from backfill.runs") == 1
    same_as_undisturbed(stage)


def test_each_of_our_sessions_is_terminated_in_turn(stage, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "20")
    stage.until_linking()
    ended = set()
    for _ in range(8):
        pids = [pid for pid in stage.sessions() if pid not in ended]
        for pid in pids[:1]:
            stage.query("select pg_terminate_backend(%s)", pid)
            ended.add(pid)
        time.sleep(0.3)
    assert len(ended) >= 5  # the lock's, the watch's, the driver's and the workers'
    assert command.end() == 0, command.said
    assert "Connected again" in command.said
    assert stage.value("select attempts from backfill.runs") == 1
    same_as_undisturbed(stage)


def test_sessions_that_are_ended_again_while_it_comes_back(stage, same_as_undisturbed):
    """Coming back is several statements, and each of them may meet the next blow."""
    command = stage.start("run", "--quiet", *SMALL, "--nice", "5")
    stage.until_linking()
    with closing(connect(stage.url)) as other, other.cursor() as cursor:
        end = time.monotonic() + 30
        while command.said.count("The connection was lost") < 15 and time.monotonic() < end:
            cursor.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'backfill' and datname = current_database()"
            )
            time.sleep(0.05)  # a new session takes that long to settle; ended before, it is never back
    assert command.end() == 0, command.said
    assert command.said.count("Connected again") >= 3
    assert stage.value("select attempts from backfill.runs") == 1
    same_as_undisturbed(stage)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="postmaster killed"),
        pytest.param(signal.SIGQUIT, id="immediate shutdown", marks=pytest.mark.thorough),
        pytest.param(signal.SIGINT, id="restart", marks=pytest.mark.slow),
    ],
)
def test_the_driver_survives_its_server(stage, primary, same_as_undisturbed, number):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "10")
    stage.until_linking()
    primary.end(number)
    time.sleep(1)
    primary.start()
    assert command.end() == 0, command.said
    assert "waiting for it" in command.said
    if number != signal.SIGINT:  # a crash empties what is unlogged
        assert "emptied by a crash" in command.said
    assert stage.value("select attempts from backfill.runs") == 1
    assert stage.value("select (retries ->> 'connection-lost')::int from backfill.runs") >= 1
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_server_that_does_not_come_back_ends_the_run_and_is_named(stage, primary):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "10", patience="2")
    stage.until_linking()
    primary.end(signal.SIGQUIT)
    assert command.end() == 1
    assert "no server within 2 s" in command.said
    primary.start()
    stage.run(*SMALL)
    assert stage.value("select status from backfill.runs") == "succeeded"


@pytest.mark.slow
def test_sigterm_while_the_server_is_away_ends_within_two_seconds(stage, primary, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "10")
    stage.until_linking()
    primary.end(signal.SIGQUIT)
    time.sleep(1.5)
    began = time.monotonic()
    command.signal(signal.SIGTERM)
    assert command.end() == 3, command.said
    assert time.monotonic() - began < promised()
    primary.start()
    stage.run(*SMALL)
    same_as_undisturbed(stage)


def test_two_operators_start_the_same_run_at_once(stage, same_as_undisturbed):
    both = [stage.start("run", "--quiet", *SMALL, "--nice", "5") for _ in range(2)]
    codes = sorted(command.end() for command in both)
    assert codes == [0, 2], [command.said for command in both]
    assert any("Another command is driving" in command.said for command in both)
    assert stage.value("select count(*) from backfill.runs") == 1
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_driver_that_lost_its_session_to_another_one_stops(stage, same_as_undisturbed):
    first = stage.start("run", "--quiet", *SMALL, "--nice", "30")
    stage.until_linking()
    first.signal(signal.SIGSTOP)
    holder = stage.value(HOLDER)
    query(stage.url, "select pg_terminate_backend(%s)", holder)
    stage.run(*SMALL)
    first.signal(signal.SIGCONT)
    assert first.end() == 1, first.said
    assert "driven by another process now" in first.said
    same_as_undisturbed(stage)


def test_a_worker_that_hangs_loses_its_lease_and_is_replaced(stage, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "30", "--workers", "2")
    batch, worker = worker_of_a_batch(stage)
    os.kill(worker, signal.SIGSTOP)
    stage.query("update backfill.batches set lease_until = now() - interval '1 second' where id = %s", batch)
    assert command.end() == 0, command.said
    assert "its lease ran out" in command.said
    assert stage.query("select attempts from backfill.batches where id = %s", batch) == [(2,)]
    same_as_undisturbed(stage)


def test_a_zombie_whose_lease_expired_cannot_write(stage):
    """The fence itself: the lease is asked in the transaction that would write."""
    command = stage.start("run", "--quiet", *SMALL, "--nice", "30")
    stage.until_linking()
    command.signal(signal.SIGTERM)
    assert command.end() == 3
    stage.query("update backfill.runs set status = 'running'")
    engine = make_engine(make_url(stage.url), ledger_schema="backfill")
    ((number, table),) = stage.query(
        "select id, split_part(job, '.', 2) from backfill.batches where status = 'pending' and phase = 'link' limit 1"
    )
    job = PYPI.job(table)
    filenode = stage.value(f"select pg_relation_filenode('{table}')")
    zombie, other = uuid.uuid4(), uuid.uuid4()
    with engine.begin() as connection:
        claimed = claims.claim(connection, number, zombie)
        assert claimed is not None
        batch = claimed[0]
        assert claims.claim(connection, number, other) is None
    stage.query("update backfill.batches set lease_until = now() - interval '1 second' where id = %s", number)
    with engine.begin() as connection:
        assert claims.claim(connection, number, other) is not None
    before = stage.value(f"select count(ip_address_id) from {table}")
    with pytest.raises(LeaseLost):
        apply.process(engine, "backfill", job, batch, zombie, filenode, Timeouts(), lambda seconds: None)
    assert stage.value(f"select count(ip_address_id) from {table}") == before
    stage.query(
        "update backfill.runs set throttled = 'a sensor'"
    )  # holds a worker in the middle of its batch
    with pytest.raises(Stopped):
        apply.process(engine, "backfill", job, batch, other, filenode, Timeouts(), lambda seconds: None)
    stage.query("update backfill.runs set throttled = null")
    assert stage.value(f"select count(ip_address_id) from {table}") == before
    counts = apply.process(engine, "backfill", job, batch, other, filenode, Timeouts(), lambda seconds: None)
    assert counts.written > 0
    engine.dispose()


@pytest.mark.parametrize(
    "then", ["held", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("an error", "a timeout"))]
)
def test_a_batch_whose_last_commit_was_answered_to_nobody_stays_done(stage, same_as_undisturbed, then):
    """Handed back or given up, it had no pass left to do: nobody could end it, and the run waited for ever."""
    command = stage.start("run", "--quiet", *SMALL, "--nice", "30")
    stage.until_linking()
    command.signal(signal.SIGTERM)
    assert command.end() == 3
    stage.query("update backfill.runs set status = 'running'")
    engine = make_engine(make_url(stage.url), ledger_schema="backfill")
    ((number, table),) = stage.query(
        "select id, split_part(job, '.', 2) from backfill.batches where status = 'pending' and phase = 'link' limit 1"
    )
    filenode = stage.value(f"select pg_relation_filenode('{table}')")
    failing = {
        "an error": "select nonsense",
        "a timeout": "set statement_timeout = 10; select pg_sleep(5)",
    }
    calls = []

    def work(batch, lease):
        calls.append(batch)
        if len(calls) > 1 and then in failing:
            stage.query(failing[then])
        apply.process(engine, "backfill", PYPI.job(table), batch, lease, filenode)
        if then == "held":
            stage.query("update backfill.runs set throttled = 'a sensor'")
        raise psycopg2.OperationalError("server closed the connection unexpectedly")

    outcome = run_batch(engine, number, work, RetryPolicy(), sleep=lambda seconds: None)
    engine.dispose()
    assert outcome.stopped or outcome.error or outcome.halved
    assert len(calls) > 1
    assert stage.query("select status, passes_done = passes from backfill.batches where id = %s", number) == [
        ("succeeded", True)
    ]
    stage.query("update backfill.runs set throttled = null, status = 'paused'")
    stage.run(*SMALL)
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_run_that_finds_nothing_to_do_says_so_and_looks_again(stage, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "1")
    stage.until_linking()
    with closing(connect(stage.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute(
            "select from backfill.batches where phase = 'link' and job = 'public.team_events.ip_address_string' for update skip locked"
        )
        assert cursor.rowcount == 1  # no lease, and nobody can have it
        stage.until_true(lambda: "no batch was free for" in command.said, seconds=150)
        other.rollback()
    assert command.end() == 0, command.said
    same_as_undisturbed(stage)
