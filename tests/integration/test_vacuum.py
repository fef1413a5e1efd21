"""Our own VACUUM between batches: it happens where it is wanted, it keeps the table small, and it may fail."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.engine import vacuum
from backfill.plan import PYPI
from backfill.settings import Vacuum
from tests.databases import Databases, connect, query
from tests.demo_template import environment, fill_demo
from tests.faults.stage import in_background
from tests.operator import Operator

ROWS = 30_000
EVERY_ROWS = 2_000  # instead of 100,000: the table is small
RUN = ("run", "user_events", "--quiet", "--batch-blocks", "16", "--nice", "1")


def fill(url: str) -> None:
    """A larger table that autovacuum leaves alone."""
    fill_demo(url, 1_000)
    query(url, "alter table user_events set (autovacuum_enabled = false, toast.autovacuum_enabled = false)")
    query(
        url,
        f"""insert into user_events (source_id, tag, ip_address_string, additional)
            select (select id from users limit 1), 'more', '198.51.100.' || mod(n, 250),
                   jsonb_build_object('a', repeat('x', 80))
              from generate_series(1, {ROWS}) as n""",
    )
    query(url, "vacuum analyze user_events")


@pytest.fixture
def neglected(
    databases: Databases, clone: Callable[[str], str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Operator]:
    """``neglected(vacuum=WHEN)``: an operator of it. One pass a batch, so that dead rows stay until a VACUUM."""
    monkeypatch.setattr(vacuum, "EVERY_ROWS", EVERY_ROWS)
    databases.template("neglected", fill)

    def operator(**variables: str) -> Operator:
        url = clone("neglected")
        return Operator(url, environment(url, home)).having(passes="1", **variables)

    return operator


def vacuums(operator: Operator) -> int:
    """So far, once the server's counters have stopped moving: they come a moment late."""
    seen, last = -1, -2
    while seen != last:
        time.sleep(0.6)
        last = seen
        ((seen,),) = query(
            operator.url, "select vacuum_count from pg_stat_user_tables where relname = 'user_events'"
        )
    return seen


def megabytes(operator: Operator) -> float:
    return query(operator.url, "select pg_relation_size('user_events')::float / 1e6")[0][0]


def all_linked(operator: Operator) -> bool:
    left = "select count(*) from user_events where tag = 'more' and ip_address_id is null"
    return query(operator.url, left) == [(0,)]


@pytest.mark.parametrize("when", ["on", pytest.param("auto", marks=pytest.mark.slow)])
def test_dead_rows_do_not_pile_up_where_autovacuum_is_off(
    neglected: Callable[..., Operator], when: str
) -> None:
    without, with_ours = neglected(vacuum="off"), neglected(vacuum=when)
    untouched, before = megabytes(with_ours), [vacuums(without), vacuums(with_ours)]
    for operator in (without, with_ours):
        operator.types(*RUN)
        assert all_linked(operator)
    assert vacuums(without) == before[0]
    assert vacuums(with_ours) - before[1] >= 2
    # The table itself says what the dead rows cost: room of theirs that was cleared is written into again.
    grown, kept = megabytes(without) / untouched, megabytes(with_ours) / untouched
    assert grown > 1.9
    assert kept < grown - 0.3, (grown, kept)


def test_auto_leaves_a_table_to_an_autovacuum_that_comes(neglected: Callable[..., Operator]) -> None:
    operator = neglected(vacuum="auto")
    query(operator.url, "alter table user_events reset (autovacuum_enabled)")
    if query(operator.url, "show autovacuum") == [("off",)]:
        pytest.skip("autovacuum is off on this server")
    # Never behind: what makes it neglected is twice the threshold.
    query(operator.url, "update pg_class set reltuples = 10000000 where relname = 'user_events'")
    before = vacuums(operator)
    operator.types(*RUN)
    assert vacuums(operator) == before
    assert all_linked(operator)


def test_a_vacuum_that_fails_does_not_fail_the_run_and_is_told(
    neglected: Callable[..., Operator], caplog: pytest.LogCaptureFixture
) -> None:
    operator = neglected(vacuum="on")
    database = operator.url.rpartition("/")[2].partition("?")[0]
    query(operator.url, f"alter database {database} set vacuum_cost_delay = '20ms'")
    query(operator.url, f"alter database {database} set vacuum_cost_limit = 1")  # slow enough to be met
    ended: list[int] = []

    def end_them(done: threading.Event) -> None:
        while not done.wait(0.02):
            ended.extend(
                pid
                for (pid,) in query(
                    operator.url,
                    """select pid from pg_stat_activity where query like 'vacuum %' and state = 'active'
                          and datname = current_database() and pg_terminate_backend(pid)""",
                )
            )

    with in_background(end_them):
        said = operator.types(*RUN)
    assert ended
    assert "Our own VACUUM of user_events did not happen: " in said.out
    assert "The run goes on without." in said.out
    assert not [record for record in caplog.records if record.exc_info]  # no traceback on anybody's screen
    assert all_linked(operator)
    assert query(operator.url, "select status from backfill.runs") == [("succeeded",)]


def test_a_vacuum_that_the_server_skips_is_told(neglected: Callable[..., Operator]) -> None:
    """A server only warns where it does not vacuum, as where the table is locked, and calls that success."""
    operator, told = neglected(vacuum="on"), []
    engine = make_engine(make_url(operator.url), ledger_schema="backfill")
    ours = vacuum.Vacuumer(engine, "backfill", Vacuum.ON, told.append)
    with closing(connect(operator.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("lock table user_events in share update exclusive mode")
        ours.written(PYPI.job("user_events"), EVERY_ROWS)
        assert ours._thread is not None
        ours._thread.join(30)
        other.rollback()
    engine.dispose()
    assert told == [
        'Our own VACUUM of user_events did not happen: skipping vacuum of "user_events" --- lock not available. '
        "The run goes on without."
    ]
    assert not ours.done
