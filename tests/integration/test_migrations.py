"""The chain of revisions: each gate refuses for its reason, names the fix, and leaves its table as it was."""

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import MetaData, create_engine, make_url
from sqlalchemy.pool import NullPool

from backfill.database import revisions
from backfill.embedded.binaries import Binaries
from backfill.ledger.tables import metadata
from tests.databases import connect, dsn, query
from tests.demo_template import TABLES, live_hash
from tests.integration.test_link import insert
from tests.names import constraint, guard
from tests.operator import ROOT, Operator

CHAIN = [
    revision.revision
    for revision in reversed(
        list(ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini"))).walk_revisions())
    )
]
BEFORE_GUARDS, GUARDS, VALIDATED, DROPS = (
    "0002_journals",
    "0003a_team_events",
    "0003b_team_events",
    "0004_team_events",
)


def schema_of(url: str, table: str) -> str:
    """The table as pg_dump writes it, with its triggers, constraints and functions' names."""
    dump = [Binaries.find().folder / "pg_dump", "--schema-only", "--table", f"public.{table}", dsn(url)]
    text = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
    return "\n".join(line for line in text.splitlines() if not line.startswith(("\\", "--")))


def version(url: str) -> str:
    return query(url, "select version_num from backfill.alembic_version")[0][0]


def columns(url: str, table: str) -> set[str]:
    found = query(
        url,
        "select column_name from information_schema.columns where table_schema = 'public' and table_name = %s",
        table,
    )
    return {name for (name,) in found}


@pytest.fixture
def guarded_run(proved_run: Operator) -> Operator:
    """Everything proved, guards in place, constraints validated; no raw column of an event is gone yet."""
    proved_run.migrates(VALIDATED)
    return proved_run


# Shown by 5: a database that was not backfilled


def test_without_a_restore_point_the_chain_refuses_at_2(fresh_demo: Operator) -> None:
    before = schema_of(fresh_demo.url, "journals")
    refusal = fresh_demo.is_refused(restore_point=None)
    assert "drop journals.submitted_from" in refusal
    assert "restore point: none was named" in refusal
    assert "`backfill migrate --restore-point NAME`" in refusal
    assert version(fresh_demo.url) == "0001_expand"
    assert schema_of(fresh_demo.url, "journals") == before


def test_with_one_it_drops_the_journals_column_and_refuses_at_3a(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    before = {table: schema_of(url, table) for table in (*TABLES, "ip_addresses")}
    serials = query(url, "select id, last_serial, xmin::text from projects order by id")
    refusal = fresh_demo.is_refused()
    assert "guard user_events" in refusal
    assert "`backfill run`, then `backfill verify`" in refusal
    assert version(url) == "0002_journals"
    assert "submitted_from" not in columns(url, "journals")
    assert {table: schema_of(url, table) for table in before} == before
    assert query(url, "select id, last_serial, xmin::text from projects order by id") == serials


def test_the_command_itself_prints_one_line_and_fails(fresh_demo: Operator) -> None:
    said = fresh_demo.really_types("upgrade", "head", tool="alembic")
    assert said.code == 255
    assert "Traceback" not in said.out + said.err
    (line,) = [line for line in (said.out + said.err).splitlines() if "FAILED" in line]
    assert "restore point" in line
    given = fresh_demo.really_types("-x", "restore_point=nightly", "upgrade", "head", tool="alembic")
    assert "guard user_events" in given.out + given.err
    assert query(fresh_demo.url, "select detail from backfill.decisions where kind = 'drop'") == [
        ({"column": "submitted_from", "restore point": "nightly"},)
    ]


# The gates, one by one


def test_the_whole_chain_on_a_proved_database(proved_run: Operator) -> None:
    url = proved_run.url
    serials = query(url, "select id, last_serial, xmin::text from projects order by id")
    linked = {table: query(url, f"select count(*), count(ip_address_id) from {table}") for table in TABLES}
    proved_run.migrates()
    assert version(url) == "0005d_drop_ip_address"
    assert not any("ip_address_string" in columns(url, table) for table in TABLES)
    assert "ip_address" not in columns(url, "ip_addresses")
    assert "submitted_from" not in columns(url, "journals")
    assert {
        table: query(url, f"select count(*), count(ip_address_id) from {table}") for table in TABLES
    } == linked
    assert query(url, "select id, last_serial, xmin::text from projects order by id") == serials
    assert query(url, "select * from public.alembic_version") == [("d0a1b2c3e4f5",)]
    left = "select count(*) from pg_proc where pronamespace = 'backfill'::regnamespace"
    assert query(url, left) == [(0,)]
    assert query(url, "select count(*) from pg_trigger where tgname like 'zz_backfill_guard%'") == [(0,)]
    ((not_null,),) = query(url, "select attnotnull from pg_attribute where attrelid = 'ip_addresses'::regclass and attname = 'hashed_ip_address'")  # fmt: skip
    assert not_null
    assert query(url, "select count(*) from pg_constraint where conname like 'backfill%'") == [(0,)]
    query(url, "insert into user_events (source_id, tag) select source_id, 'after' from user_events limit 1")


def test_one_may_stop_after_any_revision_and_go_on(proved_run: Operator) -> None:
    for revision in CHAIN:
        proved_run.migrates(revision)
        assert version(proved_run.url) == revision
        assert proved_run.types("verify", expect=None).code in (0, 1)
    proved_run.types("verify")


def test_an_unsettled_quarantine_keeps_the_gate_shut(finished_run: Operator) -> None:
    finished_run.types("verify", expect=1)
    number = len(finished_run.waiting("user_events"))
    before = schema_of(finished_run.url, "user_events")
    refusal = finished_run.is_refused()
    assert f"quarantine of user_events: {number} rows wait for a decision" in refusal
    assert "`backfill quarantine list user_events`, which says what settles them" in refusal
    assert "quarantine of ip_addresses: 1 row waits for a decision" in refusal
    assert "`backfill quarantine list ip_addresses`" in refusal
    assert "hold a text that is no address" in refusal
    assert schema_of(finished_run.url, "user_events") == before


def test_without_a_verification_the_gate_is_shut(settled_run: Operator) -> None:
    refusal = settled_run.is_refused()
    assert "no full verification of it is on record for this plan" in refusal
    assert version(settled_run.url) == BEFORE_GUARDS


def test_a_run_after_the_verification_shuts_the_gate(proved_run: Operator) -> None:
    proved_run.types("run", "--quiet")
    assert "a run is newer than the last verification" in proved_run.is_refused()


def test_a_verification_under_another_key_id_opens_nothing(proved_run: Operator) -> None:
    assert "no full verification" in proved_run.having(key_id="another").is_refused()


def test_a_row_inserted_between_verify_and_guard_keeps_the_gate_shut(proved_run: Operator) -> None:
    insert(proved_run.url, "8.8.8.8")
    refusal = proved_run.is_refused()
    assert "writes to user_events.ip_address_string: it changed since the last verification" in refusal
    assert "deploy the change that stops writing it, `backfill verify`, wait" in refusal
    assert version(proved_run.url) == BEFORE_GUARDS


def test_an_old_row_inserted_behind_a_thousand_newer_ones_is_found_by_the_constraint(
    proved_run: Operator,
) -> None:
    url = proved_run.url
    query(
        url,
        """insert into user_events (source_id, tag, time)
           select source_id, 'new', now() from user_events, generate_series(1, 2) limit 1100""",
    )
    proved_run.types("verify")
    insert(url, "8.8.8.8")
    before = schema_of(url, "user_events")
    refusal = proved_run.is_refused()
    assert "8.8.8.8" not in refusal
    assert "backfill run" in refusal
    assert "ip_address_string" in before
    assert "ip_address_string" in schema_of(url, "user_events")
    proved_run.types("run", "--quiet")
    proved_run.types("verify")
    proved_run.migrates(VALIDATED)


def test_a_ledger_that_is_there_is_not_brought_again(
    finished_run: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alembic is a fifth of a command's start."""
    script = ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini")))
    assert revisions.names() == {one.revision for one in script.walk_revisions()}
    brought: list[object] = []
    monkeypatch.setattr(revisions, "expand", lambda *given: brought.append(given))
    finished_run.types("verify", expect=1)
    assert brought == []
    query(finished_run.url, "update backfill.alembic_version set version_num = '0009_later'")
    finished_run.types("verify", expect=1)
    query(finished_run.url, "delete from backfill.alembic_version")
    finished_run.types("verify", expect=1)
    assert len(brought) == 2


@pytest.mark.parametrize("observe", ["864000", ""])
def test_the_observation_period_has_to_pass(proved_run: Operator, observe: str) -> None:
    if not observe:  # the default, on a database that is not the demo's
        query(proved_run.url, "comment on table ip_addresses is null")
        # The template's proof may be older than the 600 s by now: a run of all tests takes longer.
        proved_run.types("verify")
    refusal = proved_run.having(observe=observe).is_refused()
    assert f"it has to stay unchanged for {observe or 600} s" in refusal
    assert "journals.submitted_from" in refusal
    assert version(proved_run.url) == "0001_expand"


def test_a_thousand_newer_rows_without_a_value_need_no_waiting(proved_run: Operator) -> None:
    query(
        proved_run.url,
        """insert into journals (name, action) select null, 'new' from generate_series(1, 1000);
           insert into user_events (source_id, tag)
           select source_id, 'new' from user_events, generate_series(1, 2) limit 1000""",
    )
    proved_run.types("verify")
    refusal = proved_run.having(observe="864000").is_refused()
    assert "guard project_events" in refusal
    assert version(proved_run.url) == "0003a_user_events"


# The guard


def test_the_guard_refuses_to_uncover_a_row_and_lets_the_rest_pass(guarded_run: Operator) -> None:
    url = guarded_run.url
    some = "(select id from user_events where ip_address_string is not null limit 1)"
    refused = [
        f"update user_events set ip_address_id = null where id = {some}",
        f"update user_events set ip_address_string = '203.0.113.' || '77' where id = {some}",
        """update user_events set ip_address_id = (select id from ip_addresses order by id desc limit 1)
             where id = (select id from user_events where ip_address_string is not null
                          and ip_address_id <> (select id from ip_addresses order by id desc limit 1) limit 1)""",
        "insert into user_events (source_id, tag, ip_address_string) select source_id, 'x', '203.0.113.' || '77' from user_events limit 1",
    ]
    for statement in refused:
        with pytest.raises(psycopg2.errors.CheckViolation) as refusal:
            query(url, statement)
        assert "backfill:" in str(refusal.value)
        assert "203.0.113.77" not in str(refusal.value)
        assert "Failing row" not in str(refusal.value)
    allowed = [
        f"update user_events set additional = '{{}}' where id = {some}",
        f"update user_events set tag = 'seen' where id = {some}",
        f"update user_events set ip_address_string = null where id = {some}",
        "insert into user_events (source_id, tag) select source_id, 'x' from user_events limit 1",
        "update user_events set ip_address_id = null where ip_address_string is null",
        "delete from user_events where tag = 'seen'",
    ]
    for statement in allowed:
        query(url, statement)


def test_a_guard_that_was_disabled_keeps_the_gate_shut(guarded_run: Operator) -> None:
    query(guarded_run.url, f"alter table user_events disable trigger {guard('user_events')}")
    before = schema_of(guarded_run.url, "user_events")
    refusal = guarded_run.is_refused()
    assert "drop user_events.ip_address_string" in refusal
    assert "guard of user_events" in refusal
    assert schema_of(guarded_run.url, "user_events") == before


def test_a_constraint_that_was_dropped_keeps_the_gate_shut(guarded_run: Operator) -> None:
    query(guarded_run.url, f"alter table user_events drop constraint {constraint('user_events')}")
    assert "constraint of user_events" in guarded_run.is_refused()
    assert "ip_address_string" in columns(guarded_run.url, "user_events")


def test_a_drop_asks_for_a_restore_point(guarded_run: Operator) -> None:
    assert "restore point: none was named" in guarded_run.is_refused(restore_point=None)


def test_what_changes_while_a_drop_waits_for_its_lock_is_noticed(guarded_run: Operator) -> None:
    url = guarded_run.url
    patient = guarded_run.having(restore_point="before", lock_timeout_ms="60000")
    with closing(connect(url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute(f"alter table user_events disable trigger {guard('user_events')}")
        upgrade = patient.starts("upgrade", "head", tool="alembic")
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'lock table%user_events%'"
        while not query(url, waiting)[0][0]:
            assert upgrade.poll() is None
        other.commit()
    out, err = upgrade.communicate(timeout=120)
    assert upgrade.returncode == 255
    assert "guard of user_events" in out + err
    assert "ip_address_string" in columns(url, "user_events")


def test_earlier_revisions_of_a_refused_upgrade_stay(guarded_run: Operator) -> None:
    query(guarded_run.url, f"alter table file_events disable trigger {guard('file_events')}")
    before = schema_of(guarded_run.url, "file_events")
    assert "file_events" in guarded_run.is_refused()
    assert version(guarded_run.url) == "0004_project_events"
    assert "ip_address_string" not in columns(guarded_run.url, "user_events")
    assert schema_of(guarded_run.url, "file_events") == before


def test_a_new_address_between_verify_and_its_drop_keeps_the_last_gate_shut(proved_run: Operator) -> None:
    url = proved_run.url
    proved_run.migrates("0005c_hash_required")
    query(url, "insert into ip_addresses (ip_address, hashed_ip_address) values ('203.0.113.9', 'x')")
    refusal = proved_run.is_refused()
    assert "writes to ip_addresses.ip_address" in refusal
    assert "ip_address" in columns(url, "ip_addresses")


@pytest.mark.parametrize(
    "change",
    [
        "update ip_addresses set hashed_ip_address = repeat('0', 64) where id = (select min(id::text)::uuid from ip_addresses)",
        pytest.param(
            "update ip_addresses as one set hashed_ip_address = reverse(hashed_ip_address)",
            marks=pytest.mark.slow,
        ),
        "delete from ip_addresses where host(ip_address) = '203.0.113.200';"
        " insert into ip_addresses (ip_address, hashed_ip_address) values ('203.0.113.201', 'x')",
        pytest.param(
            "update ip_addresses set ip_address = '203.0.113.203' where host(ip_address) = '203.0.113.200'",
            marks=pytest.mark.slow,
        ),
        "update ip_addresses set ip_address = ip_address + 1000 where host(ip_address) = '203.0.113.200'",
    ],
    ids=["one hash", "every hash", "one row for another", "one address", "one address far away"],
)
def test_a_hash_that_changed_between_verify_and_the_last_drop_keeps_it_shut(
    settled_run: Operator, change: str
) -> None:
    url = settled_run.url
    query(url, "insert into ip_addresses (ip_address, hashed_ip_address) values ('203.0.113.200', %s)", live_hash("203.0.113.200"))  # fmt: skip
    settled_run.types("verify")
    settled_run.migrates("0005c_hash_required")
    before = query(url, "select id, ip_address, hashed_ip_address from ip_addresses order by id")
    query(url, change)
    refusal = settled_run.is_refused()
    assert (
        "hashes of ip_addresses: a hash or an address was changed, or a row with an address came or went"
        in refusal
    )
    assert "`backfill verify`" in refusal
    assert "ip_address" in columns(url, "ip_addresses")
    query(url, "delete from ip_addresses where host(ip_address) = '203.0.113.201'")
    query(url, "update ip_addresses set hashed_ip_address = id::text")
    for row in before:
        query(
            url,
            "insert into ip_addresses (id, ip_address, hashed_ip_address) values (%s, %s, %s)"
            " on conflict (id) do update set hashed_ip_address = excluded.hashed_ip_address, ip_address = excluded.ip_address",
            *row,
        )
    settled_run.migrates()


def test_an_address_that_changes_while_the_last_drop_waits_for_its_lock_keeps_it_shut(
    settled_run: Operator,
) -> None:
    url = settled_run.url
    query(url, "insert into ip_addresses (ip_address, hashed_ip_address) values ('203.0.113.200', %s)", live_hash("203.0.113.200"))  # fmt: skip
    settled_run.types("verify")
    settled_run.migrates("0005c_hash_required")
    with closing(connect(url, autocommit=False)) as reader, ThreadPoolExecutor(1) as pool:
        reader.cursor().execute("select count(*) from ip_addresses")  # in the way of the drop alone
        refusal = pool.submit(settled_run.is_refused)
        waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ~ 'access exclusive'"
        while query(url, waits) == [(0,)]:
            assert not refusal.done()
            time.sleep(0.01)
        # A writer queues behind the drop for a fraction of a second, and comes in when that gives way.
        query(url, "update ip_addresses set ip_address = '203.0.113.203' where host(ip_address) = '203.0.113.200'")  # fmt: skip
        reader.rollback()
        assert "hashes of ip_addresses: a hash or an address was changed" in refusal.result()
    assert "ip_address" in columns(url, "ip_addresses")


def test_a_not_null_that_is_not_validated_is_not_yet_one(proved_run: Operator) -> None:
    """PostgreSQL 18 calls the column NOT NULL all the same."""
    url = proved_run.url
    if query(url, "select current_setting('server_version_num')::int >= 180000") == [(False,)]:
        pytest.skip("this server has no such constraint")
    proved_run.migrates("0005a_ip_address_optional")
    query(url, "alter table ip_addresses add constraint needed not null hashed_ip_address not valid")
    stages = {stage["change"]: stage["state"] for stage in json.loads(proved_run.types("gates", "--format", "json", expect=None).out)["gates"]}  # fmt: skip
    assert stages["require ip_addresses.hashed_ip_address"] != "done"
    proved_run.migrates("0005c_hash_required")
    stages = {stage["change"]: stage["state"] for stage in json.loads(proved_run.types("gates", "--format", "json", expect=None).out)["gates"]}  # fmt: skip
    assert stages["require ip_addresses.hashed_ip_address"] == "done"


def test_a_row_without_a_hash_is_refused_once_hashes_are_required(proved_run: Operator) -> None:
    url = proved_run.url
    proved_run.migrates("0005b_propose_hash_required")
    with pytest.raises(psycopg2.errors.CheckViolation):
        query(url, "insert into ip_addresses (ip_address) values (null)")
    query(url, "insert into ip_addresses (hashed_ip_address) values (repeat('a', 64))")


# Back


def test_downgrades_give_empty_columns_back_and_say_so(proved_run: Operator) -> None:
    url = proved_run.url
    before = {table: columns(url, table) for table in (*TABLES, "ip_addresses", "journals")}
    serials = query(url, "select id, last_serial, xmin::text from projects order by id")
    proved_run.migrates()
    said = proved_run.migrates("0001_expand", down=True)
    assert {table: columns(url, table) for table in before} == before
    for table in TABLES:
        assert f"{table}.ip_address_string is back, and empty: its data is gone" in said
        assert query(url, f"select count(ip_address_string) from {table}") == [(0,)]
    assert query(url, "select count(ip_address) from ip_addresses") == [(0,)]
    assert query(url, "select count(submitted_from) from journals") == [(0,)]
    assert query(url, "select id, last_serial, xmin::text from projects order by id") == serials
    assert query(url, "select count(*) from pg_constraint where conname like 'backfill%'") == [(0,)]
    assert query(url, "select * from public.alembic_version") == [("d0a1b2c3e4f5",)]


def test_before_the_first_drop_a_downgrade_restores_the_tables_exactly(
    guarded_run: Operator, fresh_demo: Operator
) -> None:
    guarded_run.migrates("0002_journals", down=True)
    for table in TABLES:
        assert schema_of(guarded_run.url, table) == schema_of(fresh_demo.url, table)


def test_after_a_downgrade_to_before_the_guards_the_chain_can_be_gone_again(guarded_run: Operator) -> None:
    guarded_run.migrates("0002_journals", down=True)
    guarded_run.migrates()


# The ledger and the chain as such


def test_the_ledgers_tables_are_those_of_revision_1(fresh_demo: Operator) -> None:
    fresh_demo.migrates("0001_expand")
    ours = MetaData()
    for table in metadata.sorted_tables:
        table.to_metadata(ours, schema="backfill")
    # The embedded server's role bears the schema's name: "$user" would make it the default one.
    only_public = {"options": "-c search_path=public"}
    engine = create_engine(make_url(fresh_demo.url), poolclass=NullPool, connect_args=only_public)
    options: dict[str, Any] = {
        "include_schemas": True,
        "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == "backfill",
        "include_object": lambda _, name, kind, *__: name != "alembic_version",
    }
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, ours) == []


def test_there_is_no_package_called_alembic_of_ours() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
    assert not (ROOT / "alembic" / "versions" / "__init__.py").exists()
    assert Path(psycopg2.__file__)  # what an __init__.py would hide is the library of the same name


def test_the_chain_is_one_line() -> None:
    script = ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini")))
    assert script.get_heads() == [CHAIN[-1]]
    assert script.get_bases() == [CHAIN[0]]
    assert all(not isinstance(script.get_revision(one).down_revision, tuple) for one in CHAIN)


@pytest.mark.parametrize("mode", ["access share", "row exclusive"])
def test_a_table_that_is_busy_is_tried_again_until_it_is_free(fresh_demo: Operator, mode: str) -> None:
    fresh_demo.migrates("0001_expand")
    busy, found = threading.Event(), threading.Event()
    impatient = fresh_demo.having(lock_timeout_ms="50")

    def hold() -> None:
        with closing(connect(fresh_demo.url, autocommit=False)) as connection, connection.cursor() as cursor:
            cursor.execute(f"lock table journals in {mode} mode")
            busy.set()
            found.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    busy.wait(60)
    upgrade = impatient.having(restore_point="before").starts("upgrade", "0002_journals", tool="alembic")
    assert upgrade.stdout
    line = upgrade.stdout.readline()
    assert "busy" in line
    assert "submitted_from" in columns(fresh_demo.url, "journals")
    found.set()
    holder.join()
    out, err = upgrade.communicate(timeout=120)
    assert upgrade.returncode == 0, out + err
    assert version(fresh_demo.url) == "0002_journals"
    assert "submitted_from" not in columns(fresh_demo.url, "journals")


def test_a_plan_without_that_table_is_told_so(proved_run: Operator, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('name = "other"\n[addresses]\ntable = "ip_addresses"\n[[jobs]]\ntable = "user_events"\n')
    with pytest.raises(CommandError, match="discards a column of journals, which plan other does not"):
        proved_run.having(plan=str(plan)).migrates()
