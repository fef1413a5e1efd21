"""Signals: every command ends within two seconds, whatever it waits for, and the server stops with it."""

import os
import signal
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.databases import connect
from tests.faults.stage import Command, Stage, kill_group, promised

AT_WORK = "application_name = 'backfill' and pid <> pg_backend_pid() and datname = current_database() and state = 'active'"
EVERYTHING = """
    select string_agg(format('%I.%I', schemaname, tablename), ', ') from pg_tables
     where schemaname in ('public', 'backfill')
"""
LOOKS = "Nothing was changed."
STAYS = "What was committed stays"

COMMANDS = {
    "scan": LOOKS,
    "plan": LOOKS,
    "calibrate": LOOKS,
    "run": STAYS,
    "status --watch": LOOKS,
    "quarantine list": STAYS,
    "quarantine settle user_events --as sentinel --count 1": STAYS,
    "addresses merge --count 1": STAYS,
    "verify": STAYS,
    "repair user_events --kind link --count 1": STAYS,
    "seal user_events": STAYS,
    "unseal user_events": STAYS,
    "gates": LOOKS,
    "report": LOOKS,
    "disclose mellow-wren": LOOKS,
    "erase user_events": STAYS,
    "prove": STAYS,
    "cutover user_events": STAYS,
    "cancel": STAYS,
    "pause": STAYS,
    "migrate": "`backfill gates` says where the chain stands",
    "alembic upgrade head": "`backfill gates` says where the chain stands",
}
QUICK = {"scan": signal.SIGTERM, "verify": signal.SIGINT, "alembic upgrade head": signal.SIGHUP}
CASES = [
    pytest.param(
        words, QUICK.get(words, signal.SIGTERM), marks=() if words in QUICK else pytest.mark.slow, id=words
    )
    for words in COMMANDS
]


@contextmanager
def everything_locked(stage):
    """By a session of the application's: whoever reads anything waits."""
    with closing(connect(stage.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute(EVERYTHING)
        cursor.execute(f"lock table {cursor.fetchone()[0]} in access exclusive mode")
        yield
        other.rollback()


def started(stage, words):
    tool, *arguments = words.split() if words.startswith("alembic") else ["backfill", *words.split()]
    if tool == "backfill":
        return stage.start(*arguments)
    command = Command(
        [str(Path(sys.executable).parent / tool), *arguments],
        stage.environment | {"BACKFILL_RESTORE_POINT": "before"},
    )
    stage.commands.append(command)
    return command


def ends_in_time(command, number):
    began = time.monotonic()
    command.signal(number)
    code = command.end()
    assert time.monotonic() - began < promised(), command.said
    assert code == 128 + number, command.said
    assert "Traceback" not in command.said
    last = command.lines[-1]
    assert f"{number.name}: ended at once" in last
    return last


@pytest.mark.parametrize(("words", "number"), CASES)
def test_a_command_that_waits_for_a_lock_ends_and_says_what_is_left(after_a_run, words, number):
    stage = after_a_run
    with everything_locked(stage):
        command = started(stage, words)
        stage.until(f"exists (select from pg_stat_activity where {AT_WORK} and wait_event_type = 'Lock')")
        assert COMMANDS[words] in ends_in_time(command, number)
        # The server has stopped as well: nobody waits there for a command that has ended.
        stage.until(f"not exists (select from pg_stat_activity where {AT_WORK})", 5)


def test_run_is_ended_while_it_calibrates(stage):
    with everything_locked(stage):
        command = stage.start("run", "--quiet")
        stage.until(f"exists (select from pg_stat_activity where {AT_WORK} and wait_event_type = 'Lock')")
        assert "backfill run" in ends_in_time(command, signal.SIGINT)


@pytest.mark.slow
def test_demo_is_ended_while_it_fills_and_leaves_an_empty_database(stages):
    stage = Stage(stages.create())
    command = stage.start("demo", "--events", "400000")
    stage.until_true(lambda: len(command.lines) > 1, "the first table")
    assert "The database is as it was" in ends_in_time(command, signal.SIGTERM)
    stage.until(f"not exists (select from pg_stat_activity where {AT_WORK})", 5)
    assert not stage.query("select from pg_tables where schemaname = 'public'")
    stages.drop(stage.url)


@pytest.fixture
def slow_rewrite(after_a_run):
    """A table whose indexes take the server a quarter of an hour to build."""
    stage = after_a_run
    stage.query("alter table user_events drop column ip_address_string, set (autovacuum_enabled = off)")
    stage.query("create function slow(uuid) returns uuid immutable language sql return $1")
    stage.query("create index on user_events (slow(id))")
    stage.query(
        "create or replace function slow(uuid) returns uuid immutable language plpgsql as"
        " $$ begin perform pg_catalog.pg_sleep(0.5); return $1; end $$"
    )
    return stage


def rewriting(stage):
    command = stage.start("erase", "user_events")
    stage.until(f"exists (select from pg_stat_activity where {AT_WORK} and wait_event = 'PgSleep')", 20)
    return command


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_erase_ends_under_its_lock_and_the_table_is_as_it_was(slow_rewrite, number):
    stage = slow_rewrite
    before = stage.value("select pg_relation_filenode('user_events')")
    command = rewriting(stage)
    last = ends_in_time(command, number)
    assert "user_events was being rewritten: it is as it was" in last
    assert "`backfill erase` goes on from there" in last
    stage.until("not exists (select from pg_locks where mode = 'AccessExclusiveLock' and granted)", 5)
    assert stage.value("select pg_relation_filenode('user_events')") == before
    assert stage.value("select count(*) > 0 from user_events")


def test_a_rewrite_ends_with_a_client_that_was_killed(slow_rewrite):
    stage = slow_rewrite
    kill_group(rewriting(stage))
    stage.until("not exists (select from pg_locks where mode = 'AccessExclusiveLock' and granted)", 10)
    assert stage.value("select count(*) > 0 from user_events")


@pytest.mark.slow
def test_a_second_signal_does_not_wait_for_the_first(slow_rewrite, primary):
    stage = slow_rewrite
    command = rewriting(stage)
    os.kill(primary.process.pid, signal.SIGSTOP)  # so that the first cannot be carried out
    try:
        began = time.monotonic()
        command.signal(signal.SIGINT)
        time.sleep(0.3)
        command.signal(signal.SIGINT)
        assert command.end() == 130, command.said
        assert time.monotonic() - began < promised()
        assert command.said.count("ended at once") == 1
    finally:
        os.kill(primary.process.pid, signal.SIGCONT)
    stage.until("not exists (select from pg_locks where mode = 'AccessExclusiveLock' and granted)", 10)


@pytest.mark.slow
def test_the_end_of_a_terminal_is_none_for_what_was_started_with_nohup(slow_rewrite):
    stage = slow_rewrite
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as from nohup
    try:
        command = rewriting(stage)
    finally:
        signal.signal(signal.SIGHUP, before)
    command.signal(signal.SIGHUP)
    time.sleep(2)
    assert command.process.poll() is None, command.said
    ends_in_time(command, signal.SIGTERM)
