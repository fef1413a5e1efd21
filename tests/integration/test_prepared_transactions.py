"""A prepared transaction has no session, and its locks stay for ever: whoever waits for them is told its name."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine, rows
from backfill.database.lock_retry import lock_holders
from backfill.ledger.run_status import BLOCKED
from tests import rewritten
from tests.databases import connect, query
from tests.operator import Operator

NAME = "it's 7"
SHOWN = "prepared transaction 'it''s 7'"
JOB = {"table": "logins", "raw": "ip", "becomes": "network", "unreadable": "keep"}


def prepare(url: str, statement: str) -> None:
    """*statement*, prepared."""
    with closing(connect(url, autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        cursor.execute("prepare transaction %s", (NAME,))


@pytest.fixture
def site(database: str, home: Path, tmp_path: Path) -> Iterator[Operator]:
    if query(database, "show max_prepared_transactions") == [("0",)]:
        pytest.skip("this server takes no prepared transactions")
    rewritten.table(database, "logins", "text", ("81.2.3.4", "81.2.3.5"))
    yield rewritten.operator(database, home, rewritten.plan_file(tmp_path, JOB)).having(
        patience="0", workers="1"
    )
    for (name,) in query(database, "select gid from pg_prepared_xacts where database = current_database()"):
        query(database, "rollback prepared %s", name)


def test_a_run_that_cannot_go_on_names_the_transaction_and_what_ends_it(site: Operator) -> None:
    words = rewritten.confirmed(site.types("run", "--quiet", expect=2))
    prepare(site.url, "lock table logins in share mode")
    failed = site.types(*words, expect=1)
    named = f"Holding locks on logins: {SHOWN} (for "
    assert named in failed.out  # when the batch was given up
    assert named in failed.err
    assert "`rollback prepared` or `commit prepared` ends it). `backfill status`" in failed.err
    assert named in site.types("status").out
    query(site.url, "rollback prepared %s", NAME)
    site.types("run", "--quiet")
    site.types("verify")


@pytest.mark.parametrize(
    ("holds", "wants"),
    [
        ("lock table logins in share mode", "lock table logins in row exclusive mode"),
        ("update logins set note = 'x' where id = 1", "update logins set note = 'y' where id = 1"),
    ],
    ids=["table", "row"],
)
def test_who_holds_a_lock_is_told_whether_it_has_a_session_or_not(
    site: Operator, holds: str, wants: str
) -> None:
    prepare(site.url, holds)
    waiting = connect(site.url)
    query_of = waiting.cursor()
    query_of.execute("set application_name = 'backfill'; set lock_timeout = '10s'")

    def wait() -> None:
        with closing(waiting), waiting.cursor() as cursor, pytest.raises(psycopg2.errors.QueryCanceled):
            cursor.execute(f"begin; {wants}")

    thread = threading.Thread(target=wait)
    engine = make_engine(make_url(site.url))
    thread.start()
    last = time.monotonic() + 10
    with engine.begin() as connection:
        found = rows(connection, BLOCKED)
        while not found and time.monotonic() < last:
            time.sleep(0.02)
            found = rows(connection, BLOCKED)
        assert [who for who, _ in found] == [SHOWN]
        assert lock_holders(connection, "'public.logins'::regclass", others=True).startswith(SHOWN)
    query(site.url, "select pg_cancel_backend(%s)", waiting.info.backend_pid)
    thread.join()
    engine.dispose()
