"""``backfill migrate``: the chain through a command of ours, with errors of ours."""

import shutil
import time
from contextlib import closing
from pathlib import Path

import pytest

from backfill.database import revisions
from backfill.errors import MigrationsMissing
from tests.databases import connect, query
from tests.integration.test_migrations import CHAIN, columns, version
from tests.operator import ROOT, Operator

NO_LEDGER = "select to_regclass('backfill.runs') is null"


@pytest.fixture
def named(proved_run: Operator) -> Operator:
    return proved_run.having(restore_point="nightly")


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the chain that is used instead, at a path that an ini file would have to escape."""
    place = tmp_path / "50% of the chain"
    shutil.copytree(ROOT / "alembic", place)
    monkeypatch.setattr(revisions, "BESIDE", place)
    return place


def without_ledger(operator: Operator) -> Operator:
    query(operator.url, "drop schema if exists backfill cascade")
    return operator


# There and back


def test_it_goes_to_the_end_and_says_where_it_stands(named: Operator, copy: Path) -> None:
    assert (
        named.types("migrate", "0002_journals").out.splitlines()[-1]
        == "The chain went from 0001_expand to 0002_journals. Next: `backfill gates`."
    )
    assert f"to {CHAIN[-1]}. Next: `backfill gates`." in named.types("migrate").out
    assert "ip_address" not in columns(named.url, "ip_addresses")
    assert f"Nothing to do: the chain is at {CHAIN[-1]} already." in named.types("migrate").out
    assert named.types("gates").out.startswith("Everything is done. Next: `backfill erase`")


def test_one_step_and_one_back(named: Operator) -> None:
    assert "to 0002_journals." in named.types("migrate", "+1").out
    said = named.types("migrate", "0001_expand", "--down").out
    assert "The chain went from 0002_journals to 0001_expand." in said
    assert "submitted_from" in columns(named.url, "journals")


def test_it_begins_at_nothing_and_goes_back_there(fresh_demo: Operator) -> None:
    without_ledger(fresh_demo)
    said = fresh_demo.types("migrate", "0001_expand").out
    assert "The chain went from its beginning to 0001_expand." in said
    said = fresh_demo.types("migrate", "base", "--down").out
    assert "The chain went from 0001_expand to its beginning. Next: `backfill run`." in said


def test_the_restore_point_of_the_option_goes_on_record(proved_run: Operator) -> None:
    refused = proved_run.types("migrate", "0002_journals", expect=1)
    assert "restore point: none was named" in refused.err
    proved_run.types("migrate", "0002_journals", "--restore-point", "a=b, last night's")
    found = query(
        proved_run.url, "select detail ->> 'restore point' from backfill.decisions where kind = 'drop'"
    )
    assert found == [("a=b, last night's",)]


# What it refuses


def test_a_gate_that_refuses_is_exit_1_and_the_revisions_before_it_stay(named: Operator) -> None:
    query(named.url, "update user_events set ip_address_id = null where ip_address_id is not null")
    said = named.types("migrate", expect=1)
    assert said.err.startswith("backfill: Refused: guard user_events.")
    assert said.err.count("\n") == 1
    assert version(named.url) == "0002_journals"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["0009_nothing"], "The chain cannot go to 0009_nothing: Can't locate revision"),
        (["0003a"], "The chain cannot go to 0003a: Can't locate revision"),
        (["0009:head", "--sql"], "The chain cannot go to 0009:head: Can't locate revision"),
        (["0001_expand:head"], "The chain cannot go to 0001_expand:head:"),
        (["+99"], "The chain cannot go to +99:"),
        (["base", "--down", "--sql"], "The chain cannot go to base:"),
    ],
)
def test_a_revision_that_cannot_be_gone_to(fresh_demo: Operator, words: list[str], problem: str) -> None:
    without_ledger(fresh_demo)
    said = fresh_demo.types("migrate", *words, expect=2)
    assert said.err.startswith(f"backfill: {problem}")
    assert "`backfill gates` names the revisions" in said.err
    assert said.out == ""
    assert query(fresh_demo.url, NO_LEDGER) == [(True,)]


def test_back_without_a_goal_or_forwards(named: Operator) -> None:
    process = named.really_types("migrate", "--down")
    assert (process.code, process.out) == (2, "")
    assert "--down needs the REVISION to go back to" in process.err
    said = named.types("migrate", "0003b_user_events", "--down", expect=2)
    assert "The chain cannot go to 0003b_user_events:" in said.err
    assert version(named.url) == "0001_expand"


def test_a_chain_with_two_ends(fresh_demo: Operator, copy: Path) -> None:
    (copy / "versions" / "0006_other.py").write_text(
        '"""Another end."""\nrevision = "0006_other"\ndown_revision = "0004_team_events"\n'
        "def upgrade() -> None: ...\ndef downgrade() -> None: ...\n"
    )
    for words in ([], ["--sql"]):
        said = fresh_demo.types("migrate", *words, expect=2)
        assert "The chain cannot go to head: Multiple head revisions are present" in said.err


@pytest.mark.parametrize("command", ["migrate", "run"])
def test_a_database_at_a_revision_of_another_version(named: Operator, command: str) -> None:
    query(named.url, "update backfill.alembic_version set version_num = '0042_later'")
    said = named.types(command, expect=2)
    assert "The ledger's revision (in backfill.alembic_version) is not one" in said.err
    assert "0042_later" in said.err


def test_a_table_that_stays_busy(named: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    named.types("migrate", "0003a_team_events")
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # between the tries
    with closing(connect(named.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("lock table user_events in share update exclusive mode")
        said = named.having(lock_timeout_ms="10").types("migrate", expect=1)
    assert "The table is busy; trying again" in said.out
    assert "backfill: A revision did not get its lock" in said.err
    assert "run `backfill migrate` again" in said.err
    assert version(named.url) == "0003a_team_events"


@pytest.mark.parametrize("held", ["access share", "row exclusive"])
def test_a_table_that_stays_busy_under_a_drop_is_given_up_after_20_tries_and_the_session_is_named(
    proved_run: Operator, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    named = proved_run.having(restore_point="nightly", lock_timeout_ms="5")
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with closing(connect(named.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute(f"set application_name = 'a slow report'; lock table journals in {held} mode")
        said = named.types("migrate", expect=1)
    assert said.out.count("journals is busy; trying again") == 19
    assert "backfill: journals could not be locked in 20 tries. In the way: session" in said.err
    assert "(a slow report," in said.err
    assert said.err.count("\n") == 1
    assert "submitted_from" in columns(named.url, "journals")
    assert "to 0002_journals." in named.types("migrate", "+1").out


def test_a_server_that_is_not_there(fresh_demo: Operator) -> None:
    away = fresh_demo.having(database_url="postgresql://me:hush@127.0.0.1:1/db")
    said = away.really_types("migrate")
    assert said.code == 2
    assert "Cannot connect to" in said.err
    assert "hush" not in said.out + said.err
    assert "Traceback" not in said.out + said.err


# As a script


@pytest.mark.parametrize("name", ["nightly", "päivä \x1b[31m 100%"])
def test_the_script_is_that_of_alembic_to_the_byte(fresh_demo: Operator, name: str) -> None:
    named = fresh_demo.having(restore_point=name, observe="0")
    theirs = named.really_types("upgrade", "0001_expand:head", "--sql", tool="alembic")
    ours = named.really_types("migrate", "0001_expand:head", "--sql")
    option = fresh_demo.having(observe="0").really_types(
        "migrate", "0001_expand:head", "--sql", "--restore-point", name
    )
    assert (theirs.code, ours.code, option.code) == (0, 0, 0)
    assert ours.out == theirs.out == option.out
    assert name in ours.out


def test_the_script_needs_no_database(fresh_demo: Operator) -> None:
    away = fresh_demo.having(database_url="postgresql://me@127.0.0.1:1/db")
    assert "create schema" in away.types("migrate", "--sql").out
    back = away.types("migrate", "0002_journals:0001_expand", "--down", "--sql").out
    assert "submitted_from" in back


# Where the chain lies


def test_the_folder_beside_a_package_is_taken_only_with_our_revisions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library, packaged = tmp_path / "alembic", tmp_path / "backfill" / "chain"
    (library / "versions").mkdir(parents=True)
    (library / "env.py").touch()
    monkeypatch.setattr(revisions, "BESIDE", library)
    monkeypatch.setattr(revisions, "PACKAGED", packaged)
    with pytest.raises(MigrationsMissing, match="Install Backfill again"):
        revisions.folder()
    shutil.copytree(ROOT / "alembic", packaged)
    assert revisions.folder() == packaged
    monkeypatch.setattr(revisions, "BESIDE", ROOT / "alembic")
    assert revisions.folder() == ROOT / "alembic"
