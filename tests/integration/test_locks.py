"""Locks: two commands exclude each other, whoever has one is named, and no other role can take it from us."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import psycopg2
import pytest
from psycopg2 import sql
from sqlalchemy import make_url, select

from backfill.database.connection import make_engine, value
from backfill.ledger import claims, locks
from backfill.ledger.batches import Batch
from backfill.ledger.tables import batches
from tests.databases import connect, query
from tests.operator import Operator

ADVISORY = "locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())"


@contextmanager
def taken(operator: Operator, name: str) -> Iterator[int]:
    """By another command, whose session calls itself a rival."""
    engine = make_engine(make_url(operator.url), ledger_schema="backfill")
    with engine.connect() as connection:
        value(connection, sql.SQL("select set_config('application_name', 'a rival', false)"))
        assert isinstance(locks.take(connection, "backfill", name), int)
        yield int(value(connection, sql.SQL("select pg_backend_pid()")))
        connection.invalidate()
    engine.dispose()


@pytest.fixture
def stranger(database: str) -> Iterator[str]:
    """A role that may connect, and nothing else."""
    query(database, "create role squatter login")
    yield "squatter"
    query(database, "drop role squatter")


@contextmanager
def squatting(operator: Operator, role: str, *numbers: str) -> Iterator[None]:
    """That role holds these advisory locks."""
    url = make_url(operator.url).set(username=role).render_as_string(hide_password=False)
    with closing(connect(url)) as other, other.cursor() as cursor:
        for number in numbers:
            # Whoever had it before may be on the way out still.
            cursor.execute(f"set lock_timeout = '30s'; select pg_advisory_lock({number})")
        yield


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (locks.RUN, ["run", "--no-sample"]),
        (locks.RUN, ["erase"]),
        (locks.VERIFY, ["verify"]),
        (locks.CHAIN, ["run", "--no-sample"]),
    ],
)
def test_whoever_has_the_lock_is_named(finished_run: Operator, name: str, words: list[str]) -> None:
    with taken(finished_run, name) as pid:
        said = finished_run.types(*words, expect=2)
    assert f"session {pid} of role " in said.err
    assert "application a rival" in said.err
    assert "UTC" in said.err


def test_a_migration_names_who_is_at_the_chain(proved_run: Operator) -> None:
    with taken(proved_run, locks.CHAIN) as pid:
        assert f"session {pid} of role " in proved_run.is_refused()


def test_a_lock_goes_with_its_session(finished_run: Operator) -> None:
    with taken(finished_run, locks.RUN) as pid:
        finished_run.types("run", "--no-sample", expect=2)
        query(finished_run.url, "select pg_terminate_backend(%s)", pid)
        finished_run.types("run", "--no-sample", "--quiet")


@pytest.mark.parametrize("name", [locks.RUN, locks.VERIFY, locks.CHAIN])
def test_another_role_that_sits_on_the_number_blocks_nobody(
    settled_run: Operator, stranger: str, name: str
) -> None:
    """It read the number in pg_locks while we had it, and was faster when we let go."""
    with taken(settled_run, name):
        pass
    ((key,),) = query(settled_run.url, "select key from backfill.locks where name = %s", name)
    with squatting(settled_run, stranger, str(key)):
        assert query(settled_run.url, f"select count(*) from pg_locks where {ADVISORY}") == [(1,)]
        assert "no process drives" not in settled_run.types("status").out
        settled_run.types("run", "--no-sample", "--quiet")
        settled_run.types("verify")
        settled_run.migrates("0001_expand")
    assert query(settled_run.url, "select key from backfill.locks where name = %s", name) != [(key,)]


def test_numbers_that_anybody_can_guess_mean_nothing(fresh_demo: Operator, stranger: str) -> None:
    """Also before there is a ledger: the first command is not kept out."""
    guessed = ("1633774443, 1", "1633774443, hashtext('backfill')", "1633774444, hashtext('backfill')", "0")
    with squatting(fresh_demo, stranger, *guessed):
        fresh_demo.types("run", "--no-sample", "--quiet")
        fresh_demo.types("verify", expect=1)


def test_a_role_that_reads_the_ledger_cannot_take_a_lock(finished_run: Operator, stranger: str) -> None:
    query(finished_run.url, f"grant usage on schema backfill to {stranger}")
    query(finished_run.url, f"grant select on backfill.locks to {stranger}")
    url = make_url(finished_run.url).set(username=stranger).render_as_string(hide_password=False)
    with closing(connect(url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("lock table backfill.locks in access share mode")
        cursor.execute("select pg_advisory_lock(key) from backfill.locks")
        finished_run.types("run", "--no-sample", "--quiet")
        for statement in (
            "select from backfill.locks for update",
            "lock table backfill.locks in row exclusive mode",
        ):
            other.rollback()
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)
    query(finished_run.url, f"drop owned by {stranger}")


def test_two_that_take_it_at_the_same_moment_are_one_too_many(finished_run: Operator) -> None:
    engine = make_engine(make_url(finished_run.url), ledger_schema="backfill")
    connections = [engine.connect() for _ in range(8)]
    for _ in range(10):
        found: list[object] = []
        threads = [
            threading.Thread(
                target=lambda one=one, found=found: found.append(locks.take(one, "backfill", locks.RUN))
            )
            for one in connections
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(type(one).__name__ for one in found) == ["Holder"] * 7 + ["int"]
        key = next(one for one in found if isinstance(one, int))
        for connection in connections:
            value(connection, sql.SQL("select pg_advisory_unlock(%s)"), (key,))
            connection.commit()
    for connection in connections:
        connection.invalidate()
        connection.close()
    engine.dispose()


def test_a_lock_that_is_held_keeps_no_vacuum_back(finished_run: Operator) -> None:
    with taken(finished_run, locks.RUN) as pid:
        ((state, horizon, xid),) = query(
            finished_run.url,
            "select state, backend_xmin, backend_xid from pg_stat_activity where pid = %s",
            pid,
        )
    assert (horizon, xid) == (None, None)
    assert state in ("idle", "idle in transaction")


def test_a_batch_that_was_tried_again_writes_alone_before_those_that_ask_later(
    finished_run: Operator,
) -> None:
    """Its turn; as many may have one together as were not tried again."""
    query(finished_run.url, "update backfill.batches set retries = 1 where id = (select min(id) from backfill.batches)")  # fmt: skip
    engine = make_engine(make_url(finished_run.url), ledger_schema="backfill")
    with engine.connect() as connection:
        first = Batch.of(connection.execute(select(batches).order_by(batches.c.id).limit(1)).one())
    second = replace(first, id=first.id + 1)
    turns: list[str] = []
    may_end = {name: threading.Event() for name in ("one", "other", "alone", "late")}
    over = threading.Event()

    def works(name: str, batch: Batch) -> None:
        with engine.begin() as connection:
            value(connection, sql.SQL("select set_config('lock_timeout', '100ms', true)"))
            claims.take_turn(connection, batch)
            assert value(connection, sql.SQL("select current_setting('lock_timeout')")) == "100ms"
            turns.append(name)
            may_end[name].wait(20)

    def begins(name: str, batch: Batch, *, waits: bool) -> threading.Thread:
        thread = threading.Thread(target=works, args=(name, batch))
        thread.start()
        waiting = f"select from pg_locks where not granted and {ADVISORY.replace(' and granted', '')}"
        before = len(query(finished_run.url, waiting))
        for _ in range(200):
            if len(query(finished_run.url, waiting)) > before if waits else name in turns:
                break
            over.wait(0.02)
        return thread

    threads = [
        begins("one", second, waits=False),
        begins("other", second, waits=False),
        begins("alone", first, waits=True),
        begins("late", second, waits=True),
    ]
    over.wait(0.2)  # longer than the timeout of a lock
    assert turns == ["one", "other"]
    may_end["one"].set()
    may_end["other"].set()
    threads[0].join()
    threads[1].join()
    for _ in range(200):
        if len(turns) == 3:
            break
        over.wait(0.02)
    assert turns == ["one", "other", "alone"]  # not the late one, though it could share
    for event in may_end.values():
        event.set()
    for thread in threads:
        thread.join()
    assert turns == ["one", "other", "alone", "late"]
    engine.dispose()
