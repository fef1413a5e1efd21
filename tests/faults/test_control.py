"""Control from another shell: pause, resume, cancel, status; one transition table, enforced."""

import json
import re
import signal
import time
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from tests.databases import connect
from tests.faults.conftest import SMALL
from tests.faults.stage import promised


def running(stage, *words, **settings):
    """A run in the middle of its link phase, slow enough to be met there."""
    command = stage.start("run", "--quiet", *SMALL, "--nice", "10", *words, **settings)
    stage.until_linking()
    return command


def test_a_paused_run_stands_still_and_goes_on_in_the_same_process(stage, same_as_undisturbed):
    command = running(stage)
    with closing(connect(stage.url)) as writer, writer.cursor() as cursor:
        # A worker that waits for a row takes longer than it may, and is killed with its batch in hand.
        cursor.execute("select id from user_events for update")
        assert "pauses at its next checkpoint" in stage.types("pause")
        stage.until("(select status = 'paused' from backfill.runs)")
    stage.until("not exists (select from backfill.batches where status = 'running')")  # back at checkpoints
    written = stage.value("select sum(written) from backfill.batches")
    time.sleep(1.5)
    assert stage.value("select sum(written) from backfill.batches") == written
    assert not stage.query("select 1 from backfill.batches where status = 'running'")
    status = stage.status()
    assert status["driven"]
    assert status["waiting"] == "paused; `backfill resume` lets it go on"
    assert "goes on" in stage.types("resume")
    assert command.end() == 0, command.said
    assert stage.value("select attempts from backfill.runs") == 1
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_resume_without_a_process_says_what_to_type(stage, same_as_undisturbed):
    command = running(stage)
    command.kill()
    stage.until_true(lambda: not stage.sessions())
    assert "marked as paused" in stage.types("pause")
    said = stage.types("resume", expect=2)
    assert "no process drives it" in said
    assert "`backfill run`" in said
    stage.run(*SMALL)
    same_as_undisturbed(stage)


def test_a_cancelled_run_ends_drops_its_map_and_does_not_come_back(stage):
    command = running(stage)
    assert "ends at its next checkpoint" in stage.types("cancel")
    assert command.end() == 3
    assert "was cancelled" in command.said
    assert stage.value("select status from backfill.runs") == "cancelled"
    assert stage.value("select to_regclass('backfill.address_map') is null")
    said = stage.types("resume", expect=2)
    assert "Run 1 is cancelled" in said
    assert "Run 1 is cancelled" in stage.types("pause", expect=2)
    stage.run(*SMALL)
    assert stage.query("select id, status from backfill.runs order by id") == [
        (1, "cancelled"),
        (2, "succeeded"),
    ]


@pytest.mark.slow
def test_cancelling_a_run_that_nobody_drives_drops_the_map_as_well(stage):
    command = running(stage)
    command.kill()
    stage.until_true(lambda: not stage.sessions())
    stage.types("cancel")
    assert stage.value("select status from backfill.runs") == "cancelled"
    assert stage.value("select to_regclass('backfill.address_map') is null")


def test_status_tells_rows_rate_workers_and_a_dead_driver(stage):
    command = running(stage)
    stage.until_true(lambda: stage.status()["rate"] > 0, "some batches are done")
    status = stage.status()
    assert status["status"] == "running"
    assert status["phase"].endswith("link")
    assert status["rows_done"] > 0
    assert status["rows_left"] > 0
    assert status["rate"] > 0
    assert status["eta_seconds"] > 0
    assert status["batch_blocks"] > 0
    assert status["waiting"] is None
    assert status["heartbeat_age"] < 10
    assert all(worker["since"] and worker["table"] for worker in status["workers"])
    text = stage.types("status")
    assert "rows/s" in text
    assert "next batch" in text
    command.kill()
    stage.until_true(lambda: not stage.sessions())
    assert "no process drives it" in stage.status()["waiting"]
    assert "Not moving: no process drives it" in stage.types("status")


@pytest.mark.slow
def test_status_watch_follows_the_run_to_its_end(stage):
    command = running(stage)
    watch = stage.start("status", "--watch", "--every", "0.3", "--format", "json")
    assert command.end() == 0
    assert watch.end() == 0
    looks = [json.loads(line) for line in watch.lines]
    assert len(looks) > 1
    assert looks[-1]["status"] == "succeeded"
    assert [look["rows_done"] for look in looks if look["phase"] == "link"] == sorted(
        look["rows_done"] for look in looks if look["phase"] == "link"
    )


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.thorough), signal.SIGTERM])
def test_a_signal_ends_the_run_within_two_seconds_and_says_how_to_go_on(stage, same_as_undisturbed, number):
    command = running(stage)
    began = time.monotonic()
    command.signal(number)
    assert command.end() == 3
    assert time.monotonic() - began < promised()
    name = signal.Signals(number).name
    assert re.search(rf"stopped at a checkpoint of phase link, at \d+ %: {name} was received", command.said)
    assert "`backfill run` goes on from there" in command.said
    assert stage.value("select status from backfill.runs") == "paused"
    assert not stage.query("select 1 from backfill.batches where status = 'running' and lease_until is null")
    stage.run(*SMALL)
    same_as_undisturbed(stage)


@pytest.mark.slow
@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("resolve", marks=pytest.mark.thorough),
        "link",
        pytest.param("fill", marks=pytest.mark.thorough),
        "close",
    ],
)
def test_a_signal_ends_it_within_two_seconds_while_it_waits_for_a_lock(stage, same_as_undisturbed, phase):
    # Between two phases there is no time to lock a table: the count is met by a lock taken while fill rests.
    table, lock_in = (
        "ip_addresses" if phase == "fill" else "team_events",
        "fill" if phase == "close" else phase,
    )
    # Long rests, so that there is time to lock; one pass a batch, so that they are few.
    command = stage.start("run", "--quiet", *SMALL, "--nice", "50", passes="1")
    stage.until(f"(select phase = '{lock_in}' from backfill.runs)")
    with closing(connect(stage.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute(f"lock table {table} in access exclusive mode")
        stage.until(
            "exists (select from pg_stat_activity where application_name = 'backfill' and wait_event_type = 'Lock')"
        )
        assert stage.value("select phase from backfill.runs") == phase
        began = time.monotonic()
        command.signal(signal.SIGTERM)
        assert command.end() == 3, command.said
        assert time.monotonic() - began < promised()
        other.rollback()
    stage.run(*SMALL)
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(stage, same_as_undisturbed):
    command = running(stage)
    stage.types("pause")
    stage.until("(select status = 'paused' from backfill.runs)")
    command.signal(signal.SIGSTOP)  # so that both arrive before it can act on the first
    command.signal(signal.SIGINT)
    command.signal(signal.SIGTERM)
    command.signal(signal.SIGCONT)
    assert command.end(5) == 128 + signal.SIGTERM
    assert "ended at once" in command.said
    stage.run(*SMALL)
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_it_stops_by_itself_when_its_time_is_over_and_says_so(stage, same_as_undisturbed):
    said = stage.call("run", "--quiet", *SMALL, "--nice", "20", "--max-runtime", "2s", expect=3)
    assert "the 0:00:02 of --max-runtime are over" in said
    assert stage.status()["reason"] == "the 0:00:02 of --max-runtime are over"
    said = stage.run(*SMALL)
    assert " finished." in said
    same_as_undisturbed(stage)


@pytest.mark.thorough  # it waits for the turn of a minute
def test_it_stops_by_itself_when_it_is_time_and_says_so(stage, same_as_undisturbed):
    moment = datetime.now().astimezone() + timedelta(seconds=75)
    said = stage.call(
        "run", "--quiet", "--batch-blocks", "2", "--nice", "100", "--until", f"{moment:%H:%M}", expect=3
    )
    assert f"it is {moment:%H:%M}, the time of --until" in said
    assert stage.status()["reason"] == f"it is {moment:%H:%M}, the time of --until"
    stage.run(*SMALL)
    same_as_undisturbed(stage)
