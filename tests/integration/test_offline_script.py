"""``alembic upgrade --sql`` pasted into psql: no way round a gate."""

import io
import os
import subprocess
from itertools import pairwise
from unittest import mock

import pytest
from alembic.config import Config

from alembic import command
from backfill.embedded.binaries import Binaries
from tests.databases import dsn, query
from tests.integration.test_link import insert
from tests.integration.test_migrations import CHAIN, columns, version
from tests.operator import ROOT, Operator, Said

psql_missing = pytest.mark.skipif(
    not (Binaries.find().folder / "psql").exists(), reason="these PostgreSQL binaries come without psql"
)
pytestmark = psql_missing


def script(operator: Operator, revisions: str = "head", *, down: bool = False) -> str:
    """What ``alembic upgrade REVISIONS --sql`` writes."""
    written = io.StringIO()
    config = Config(str(ROOT / "alembic.ini"), output_buffer=written)
    with mock.patch.dict(os.environ, operator.variables):
        (command.downgrade if down else command.upgrade)(config, revisions, sql=True)
    return written.getvalue()


def psql(operator: Operator, text: str) -> Said:
    """What psql says when somebody pastes *text*, with no options of its own."""
    words = [Binaries.find().folder / "psql", "--no-psqlrc", "--quiet", dsn(operator.url)]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def named(proved_run: Operator) -> Operator:
    """Proved, with a restore point and an observation period that the demo need not wait for."""
    return proved_run.having(restore_point="nightly", observe="0")


def test_on_a_proved_database_it_goes_the_whole_way(named: Operator) -> None:
    said = psql(named, script(named, f"{CHAIN[0]}:head"))
    assert said.code == 0, said.err
    assert version(named.url) == CHAIN[-1]
    assert "ip_address" not in columns(named.url, "ip_addresses")
    assert query(named.url, "select count(*) from backfill.decisions where kind = 'drop'") == [(7,)]


def test_it_can_begin_at_nothing(fresh_demo: Operator) -> None:
    said = psql(fresh_demo, script(fresh_demo, CHAIN[0]))
    assert said.code == 0, said.err
    assert version(fresh_demo.url) == CHAIN[0]
    assert query(fresh_demo.url, "select * from public.alembic_version") == [("d0a1b2c3e4f5",)]


def test_without_a_proof_it_stops_at_the_guards_and_runs_no_further(fresh_demo: Operator) -> None:
    operator = fresh_demo.having(restore_point="nightly", observe="0")
    said = psql(operator, script(operator))
    assert said.code == 3
    assert "backfill refuses: guard user_events: proof of user_events: no full verification" in said.err
    assert "HINT:  `backfill run`, then `backfill verify`" in said.err
    assert version(operator.url) == "0002_journals"
    assert "ip_address_string" in columns(operator.url, "user_events")
    assert "submitted_from" not in columns(operator.url, "journals")


def test_without_a_restore_point_it_stops_at_2(fresh_demo: Operator) -> None:
    said = psql(fresh_demo, script(fresh_demo))
    assert said.code == 3
    assert "restore point: none was named" in said.err
    assert version(fresh_demo.url) == "0001_expand"
    assert "submitted_from" in columns(fresh_demo.url, "journals")


def test_a_row_that_came_after_the_verification_stops_it(named: Operator) -> None:
    text = script(named, f"{CHAIN[0]}:head")
    insert(named.url, "8.8.8.8")
    said = psql(named, text)
    assert said.code == 3
    assert "writes to user_events.ip_address_string" in said.err
    assert version(named.url) == "0002_journals"


def test_each_revision_asks_for_the_one_before_it(named: Operator) -> None:
    for before, revision in pairwise(CHAIN):
        later = script(named, f"{before}:{revision}")
        earlier = CHAIN[CHAIN.index(before) - 1] if before != CHAIN[0] else None
        if earlier:  # the database stands at *earlier*: the step in between was left out
            said = psql(named, later)
            assert said.code == 3, revision
            assert f"not at {before}" in said.err
            assert version(named.url) == earlier
            psql(named, script(named, f"{earlier}:{before}"))
    assert version(named.url) == CHAIN[-2]


def test_a_script_that_was_run_already_changes_nothing(named: Operator) -> None:
    text = script(named, f"{CHAIN[0]}:0003a_user_events")
    assert psql(named, text).code == 0
    assert psql(named, text).code == 3
    assert version(named.url) == "0003a_user_events"


def test_it_waits_for_no_lock_longer_than_it_may(named: Operator) -> None:
    text = script(named, f"{CHAIN[0]}:head")
    locks = text.count("lock table") + text.count("validate constraint")
    assert text.count("set local lock_timeout = '300ms'") >= locks
    assert text.startswith("\\set ON_ERROR_STOP on")


def test_neither_salt_nor_password_is_in_it(named: Operator) -> None:
    text = script(named)
    assert named.variables["BACKFILL_IP_SALT"] not in text
