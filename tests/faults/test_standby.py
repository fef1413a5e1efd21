"""A standby by real streaming replication: paused, and promoted in the place of its primary."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.databases import connect, query
from tests.faults.cluster import PORT, Cluster
from tests.faults.conftest import SMALL
from tests.faults.stage import Stage

pytestmark = pytest.mark.slow


@pytest.fixture
def standby(primary: Cluster) -> Iterator[Cluster]:
    if primary.process is None or primary.process.poll() is not None:
        primary.start()
    cluster = Cluster("replica-b")
    try:
        yield cluster.copy_of(primary).start()
    finally:
        cluster.remove()


def caught_up(primary: Cluster, standby: Cluster) -> bool:
    ((lsn,),) = query(primary.url(), "select pg_current_wal_lsn()")
    return bool(query(standby.url(), "select pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn)[0][0])


def is_held_while_it_is_paused(stage: Stage, paused: Cluster, named: str) -> None:
    """Start a run, pause the replay of *paused*, see the run stand still and say *named*, let it go on."""
    command = stage.start("run", "--quiet", *SMALL, "--nice", "20")
    stage.until_linking()
    with closing(connect(paused.url())) as other, other.cursor() as cursor:
        cursor.execute("select pg_wal_replay_pause()")
        stage.until("(select throttled is not null from backfill.runs)")
        waiting = stage.status()["waiting"]
        assert waiting.startswith(named)
        assert "lags" in waiting
        assert "limit 1.5 s" in waiting
        time.sleep(1)
        written = stage.value("select sum(written) from backfill.batches")
        time.sleep(1.5)
        assert stage.value("select sum(written) from backfill.batches") == written
        cursor.execute("select pg_wal_replay_resume()")
    assert command.end() == 0, command.said
    assert f"Waiting: {named}" in command.said
    assert "Going on." in command.said


def test_a_paused_standby_holds_the_run_and_is_named(stage, primary, standby, same_as_undisturbed):
    stage.until_true(lambda: caught_up(primary, standby), "the standby has caught up")
    stage.settings.update(max_lag="1.5")
    is_held_while_it_is_paused(stage, standby, "replica replica-b lags")
    same_as_undisturbed(stage)


@pytest.mark.thorough
def test_a_paused_standby_behind_a_standby_holds_the_run(stage, primary, standby, same_as_undisturbed):
    """The primary does not know it; only asking it itself tells."""
    cascade = Cluster("replica-c")
    try:
        cascade.copy_of(standby).start()
        stage.until_true(lambda: caught_up(primary, cascade), "the second standby has caught up")
        database = stage.url.rpartition("/")[2].partition("?")[0]
        stage.settings.update(max_lag="1.5", standby_urls=cascade.url(database))
        is_held_while_it_is_paused(stage, cascade, f"standby {cascade.socket}")
        same_as_undisturbed(stage)
    finally:
        cascade.remove()


def test_a_standby_that_cannot_be_asked_holds_the_run(stage, standby):
    stage.settings.update(max_lag="5", standby_urls=standby.url("no_such_database"))
    command = stage.start("run", "--quiet", *SMALL)
    stage.until("(select throttled like '%%cannot be asked%%' from backfill.runs)".replace("%%", "%"))
    assert stage.value("select coalesce(sum(written), 0) from backfill.batches") == 0
    command.signal(signal.SIGTERM)
    assert command.end() == 3


def test_a_promoted_standby_is_followed_and_the_map_is_rebuilt(stage, primary, standby, same_as_undisturbed):
    database = stage.url.rpartition("/")[2].partition("?")[0]
    stage.until_true(lambda: caught_up(primary, standby), "the standby has caught up")
    both = (
        f"postgresql+psycopg2://backfill@/{database}"
        f"?host={primary.socket}:{PORT}&host={standby.socket}:{PORT}"
    )
    operator = Stage(both)
    command = operator.start("run", "--quiet", *SMALL, "--nice", "20")
    stage.until_linking()
    stage.until_true(lambda: caught_up(primary, standby), "the standby has caught up")
    os.kill(primary.process.pid, signal.SIGSTOP)  # no more WAL: what it has is what the standby gets
    primary.process.send_signal(signal.SIGQUIT)
    os.kill(primary.process.pid, signal.SIGCONT)
    primary.end(signal.SIGQUIT)
    after = Stage(standby.url(database))
    query(standby.url(), "select pg_promote()")
    assert command.end() == 0, command.said
    assert "emptied" in command.said
    assert after.value("select attempts from backfill.runs") == 1
    same_as_undisturbed(after)


def test_a_synchronous_standby_that_is_gone_is_named_as_what_the_commits_wait_for(
    stage, primary, same_as_undisturbed
):
    """No lock is in the way and the driver is alive; without a word it would look dead."""
    command = stage.start("run", "--quiet", *SMALL, "--nice", "10")
    stage.until_linking()
    try:
        query(primary.url(), "alter system set synchronous_standby_names = 'nobody'")
        query(primary.url(), "select pg_reload_conf()")
        stage.until_true(
            lambda: "our commits wait for a synchronous standby" in (stage.status()["waiting"] or "")
        )
    finally:
        query(primary.url(), "alter system reset synchronous_standby_names")
        query(primary.url(), "select pg_reload_conf()")
    assert command.end() == 0, command.said
    assert stage.value("select attempts from backfill.runs") == 1
    same_as_undisturbed(stage)
