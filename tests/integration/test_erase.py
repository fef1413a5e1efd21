"""Erase: what it rewrites, what it says first, what is in its way, and that it goes on where it ended."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backfill.database import lock_retry
from backfill.erase import disk
from tests.databases import connect, query
from tests.operator import ended

pytestmark = pytest.mark.usefixtures("still_server")

STEPS = "select target, status, filenode_before, filenode from backfill.erasures order by id"
FILES = "select relname, relfilenode::bigint from pg_class where relname ~ '_events$|^ip_addresses$|^journals$' and relkind = 'r'"


def files(operator):
    return dict(query(operator.url, FILES))


def test_every_table_that_lost_a_column_gets_a_new_file_and_that_is_on_record(migrated):
    before = files(migrated)
    said = migrated.types("erase")
    after = files(migrated)
    assert all(after[name] != before[name] for name in before)
    steps = query(migrated.url, STEPS)
    assert {name: (old, new) for name, status, old, new in steps if name in before} == {
        name: (before[name], after[name]) for name in before
    }
    assert {status for _, status, _, _ in steps} == {"done"}
    assert [name for name, *_ in steps][-3:] == ["scratch tables", "pg_statistic", "pg_wal"]
    assert "user_events" in said.out


def test_it_says_first_what_it_will_lock_and_a_dry_run_changes_nothing(migrated):
    before = files(migrated)
    said = migrated.types("erase", "--dry-run")
    assert "nobody reads or writes it meanwhile" in said.out
    assert all(name in said.out for name in before)
    assert "about 1 s" in said.out
    assert files(migrated) == before
    assert query(migrated.url, STEPS) == []


def test_a_second_erase_rewrites_no_table_again_unless_it_is_named(erased):
    before = files(erased)
    said = erased.types("erase")
    assert files(erased) == before
    assert said.out.count("rewritten on") == len(before)
    erased.types("erase", "user_events")
    after = files(erased)
    assert {name for name in before if after[name] != before[name]} == {"user_events"}


def test_a_table_whose_raw_column_is_still_there_is_left_alone(proved_run):
    before = files(proved_run)
    said = proved_run.types("erase")
    assert "ip_address_string is still there" in said.out
    assert files(proved_run) == before
    refused = proved_run.types("erase", "user_events", expect=2)
    assert "still there" in refused.err


def test_a_busy_table_ends_it_with_the_name_of_the_session_and_the_next_one_goes_on(migrated, monkeypatch):
    monkeypatch.setattr(lock_retry, "ATTEMPTS", 2)
    before = files(migrated)
    with closing(connect(migrated.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("set application_name = 'a report'")
        cursor.execute("lock table project_events in access share mode")
        said = migrated.types("erase", expect=1)
        assert "project_events could not be locked" in said.err
        assert f"session {other.info.backend_pid}" in said.err
        assert "a report" in said.err
    middle = files(migrated)
    assert {name for name in before if before[name] != middle[name]} == {"user_events"}
    migrated.types("erase")
    after = files(migrated)
    assert after["user_events"] == middle["user_events"]
    assert all(after[name] != before[name] for name in before)


def test_a_killed_erase_is_taken_up_by_the_next(migrated):
    before = files(migrated)
    with closing(connect(migrated.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("lock table user_events in access share mode")
        with ended(migrated.having(lock_timeout_ms="20000").starts("erase")) as process:
            waiting = "select count(*) from pg_stat_activity where query like 'vacuum (full)%' and wait_event_type = 'Lock' and datname = current_database()"
            while query(migrated.url, waiting) != [(1,)]:
                assert process.poll() is None
            process.kill()
            process.communicate()
    assert query(migrated.url, STEPS)[0][:2] == ("user_events", "running")
    # Its server process goes on with what it was told, in its own time.
    while query(
        migrated.url,
        "select 1 from pg_stat_activity where query like 'vacuum (full)%' and datname = current_database()",
    ):
        pass
    migrated.types("erase")
    assert all(files(migrated)[name] != before[name] for name in before)
    assert json.loads(migrated.types("prove", "--depth", "pages", "--format", "json").out)["state"] == "gone"


def test_an_open_snapshot_is_named_and_even_the_rows_that_it_keeps_lose_the_column(migrated):
    with closing(connect(migrated.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read")
        cursor.execute("select count(*) from users")
        query(migrated.url, "update user_events set tag = tag || '!'")  # old versions that it may still see
        said = migrated.types("erase")
        assert (
            f"Pins old rows (they are copied, without the dropped column): session {other.info.backend_pid}"
            in said.out
        )
        kept = query(migrated.url, "select count(*) from user_events")[0][0]
        assert kept
        proof = json.loads(migrated.types("prove", "--depth", "pages", "--format", "json").out)
    assert proof["state"] == "gone"


def test_a_slot_that_pins_wal_is_named_and_the_wal_is_left(migrated, operator_of):
    host = query(operator_of("demo").url, "select host(ip_address) from ip_addresses where family(ip_address) = 4 and not is_banned order by 1 desc limit 1")[0][0]  # fmt: skip
    query(migrated.url, "select pg_create_physical_replication_slot('keeper', true)")
    try:
        query(migrated.url, "select pg_logical_emit_message(false, 'left', %s)", f" {host} ")
        said = migrated.types("erase", expect=1)
        assert "Pins WAL (it will be left): replication slot keeper" in said.out
        assert "pg_wal: LEFT" in said.out
        assert query(migrated.url, "select status from backfill.erasures where target = 'pg_wal'") == [
            ("left",)
        ]
        proof = migrated.types("prove", expect=1)
        assert "slot keeper" in proof.out
        assert "WAL segments" in proof.out
    finally:
        query(migrated.url, "select pg_drop_replication_slot('keeper')")
    migrated.types("erase")
    assert query(migrated.url, "show wal_recycle") == [("on",)]


def test_too_small_a_disk_is_refused_before_anything_is_begun(migrated, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda connection, tablespace: 1_000)
    before = files(migrated)
    said = migrated.types("erase", expect=2)
    assert "needs about" in said.err
    assert files(migrated) == before
    assert query(migrated.url, STEPS) == []


@pytest.fixture
def small_disk(erased) -> Iterator[Path]:
    """A file system of 8 MB that belongs to the server's user."""
    owner = Path(query(erased.url, "show data_directory")[0][0]).stat()
    folder = Path(tempfile.mkdtemp(prefix="backfill-disk-"))
    mounted = subprocess.run(
        [
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"size=8m,uid={owner.st_uid},gid={owner.st_gid},mode=700",
            "none",
            folder,
        ],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("mounting a small file system takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def test_a_table_on_a_disk_without_room_for_it_once_more_is_refused_and_named(erased, small_disk):
    url = erased.url
    query(url, f"create tablespace tight_of_erase location '{small_disk}'")
    try:
        query(
            url,
            "create table public.tight tablespace tight_of_erase as select n, repeat('x', 900) as ballast from generate_series(1, 5200) as n",
        )
        query(url, "checkpoint")
        file = "select pg_relation_filenode('tight')"
        before = query(url, file)
        said = erased.types("erase", "tight", expect=2)
        assert "tight" in said.err
        assert "needs about" in said.err
        assert query(url, file) == before
        query(url, "truncate public.tight")
        erased.types("erase", "tight", expect=None)
        assert query(url, file) != before
    finally:
        query(url, "drop table if exists public.tight")
        query(url, "checkpoint")
        query(url, "drop tablespace tight_of_erase")


def test_a_disk_that_cannot_be_seen_is_said_to_be_so(migrated, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda connection, tablespace: None)
    assert "cannot be seen from here" in migrated.types("erase", "--dry-run").out


def test_what_a_cancelled_run_left_of_ours_is_dropped(migrated):
    query(migrated.url, "create unlogged table backfill.address_map (raw text primary key)")
    assert "address_map" in migrated.types("prove", "--depth", "catalog", expect=1).out
    assert "To be dropped: address_map" in migrated.types("erase").out
    assert query(migrated.url, "select to_regclass('backfill.address_map')") == [(None,)]


def test_partitions_unlogged_tables_and_tablespaces_are_rewritten(erased):
    with closing(connect(erased.url)) as session, session.cursor() as cursor:
        cursor.execute("create table public.parted (id int, note text) partition by range (id)")
        cursor.execute("create table public.parted_1 partition of public.parted for values from (0) to (9)")
        cursor.execute("create table public.parted_2 partition of public.parted for values from (9) to (99)")
        cursor.execute("create unlogged table public.scratchpad (note text)")
        cursor.execute("set allow_in_place_tablespaces = on")
        cursor.execute("create tablespace elsewhere_of_erase location ''")
        cursor.execute("create table public.far (note text) tablespace elsewhere_of_erase")
        before = query(
            erased.url,
            "select relname, relfilenode from pg_class where relname in ('parted_1', 'parted_2', 'scratchpad', 'far') order by 1",
        )
        said = erased.types("erase", "parted", "scratchpad", "far")
        after = query(
            erased.url,
            "select relname, relfilenode from pg_class where relname in ('parted_1', 'parted_2', 'scratchpad', 'far') order by 1",
        )
        assert all(old != new for old, new in zip(before, after, strict=True))
        assert "unlogged" in said.out
        assert "in a tablespace of its own" in said.out
        cursor.execute("drop table public.far")
        cursor.execute("drop tablespace elsewhere_of_erase")


@pytest.mark.parametrize(
    ("name", "why"),
    [("a_view", "a view"), ("nothing_of_the_kind", "no such table"), ("journals_id_seq", "a sequence")],
)
def test_what_cannot_be_rewritten_is_refused_by_name(erased, name, why):
    query(erased.url, "create view public.a_view as select 1 as one")
    said = erased.types("erase", name, expect=2)
    assert name in said.err
    assert why in said.err


def test_without_a_superuser_it_does_what_it_may_and_names_the_rest(migrated):
    role = "plain_of_erase"
    query(migrated.url, f"create role {role} login")
    try:
        query(migrated.url, f"grant usage, create on schema public, backfill to {role}")
        for (name,) in query(
            migrated.url,
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'backfill')",
        ):
            query(migrated.url, f"alter table {name} owner to {role}")
        plain = migrated.having(
            database_url=migrated.variables["BACKFILL_DATABASE_URL"].replace("//backfill@", f"//{role}@"),
            ledger_owner=query(migrated.url, "select current_user")[0][0],
        )
        said = plain.types("erase", expect=1)
        assert "pg_statistic: LEFT" in said.out
        assert "pg_wal: LEFT" in said.out
        proof = json.loads(plain.types("prove", "--format", "json", expect=1).out)
        assert proof["state"] == "unproved"
        assert proof["depth"] == "catalog"
        assert {"WAL on this server", "planner statistics"} <= {
            line["name"] for line in proof["external_copies"]
        }
        assert (
            json.loads(
                migrated.having(ledger_owner=role).types("prove", "--depth", "pages", "--format", "json").out
            )["state"]
            == "gone"
        )
    finally:
        query(migrated.url, f"reassign owned by {role} to current_user")
        query(migrated.url, f"drop owned by {role}")
        query(migrated.url, f"drop role {role}")


def test_wal_that_is_kept_as_told_is_named_as_left(erased):
    segment = "select pg_walfile_name(pg_current_wal_insert_lsn())"
    before = query(erased.url, segment)
    assert "pg_wal: LEFT: kept, as told" in erased.types("erase", "--keep-wal", expect=1).out
    assert query(erased.url, segment) == before
    assert "WAL on this server" in erased.types("prove", "--depth", "catalog").out
