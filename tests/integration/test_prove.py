"""Prove: red before erase, green after, and red again for every single copy that is planted back."""

import json
import re
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from backfill.embedded.binaries import Binaries
from backfill.prove import files as prove_files
from backfill.prove import pages as prove_pages
from tests.databases import connect, query
from tests.demo_template import SALT, environment, fill_demo
from tests.faults.cluster import Cluster
from tests.operator import Operator

pytestmark = pytest.mark.usefixtures("still_server")

KNOWN = "select host(ip_address) from ip_addresses where family(ip_address) = 4 and not is_banned and host(ip_address) not like '192.0.2.%%' order by ip_address desc limit 1"
IN_PARTS = "split_part(host, '.', {})::int"


@pytest.fixture
def address(operator_of) -> str:
    """An address that the database held, as the operator would not have it any more."""
    return query(operator_of("proved").url, KNOWN)[0][0]


def proof(operator: Operator, *words: str) -> dict:
    return json.loads(operator.types("prove", "--format", "json", *words, expect=None).out)


def found(operator: Operator, *words: str) -> dict[str, str]:
    """Places where something was found, with the command that fixes each."""
    result = proof(operator, *words)
    places = {line["where"]: line["act"] for line in result["findings"] if line["state"] == "found"}
    assert result["state"] == ("found" if places else "gone")
    return places


def test_red_before_erase_and_green_after(migrated):
    before = found(migrated)
    assert {"user_events", "journals", "ip_addresses"} <= set(before)  # pages
    assert {"table user_events", "table journals", "table ip_addresses"} <= set(before)  # bytes
    assert any("pg_statistic" in place for place in before)
    migrated.types("erase")
    assert found(migrated) == {}
    said = migrated.types("prove")
    assert "What is left, and who must act" in said.out
    assert "restore point" in said.out


def in_a_live_row(url, host):
    query(url, "create table public.stray (note text)")
    query(url, "insert into public.stray values (%s)", f"seen from {host} twice")
    return "table stray"


def in_a_dead_row(url, host):
    in_a_live_row(url, host)
    query(url, "delete from public.stray")
    return "table stray"


def as_binary_inet(url, host):
    query(url, "create table public.stray (source inet, sources inet[])")
    query(url, "insert into public.stray values (null, array[%s::inet])", host)
    return "table stray"


def in_compressed_toast(url, host):
    query(url, "create table public.stray (doc jsonb)")
    query(
        url,
        "insert into public.stray select jsonb_build_object('log', jsonb_agg(jsonb_build_object('n', md5(n::text), 'said', repeat('nothing ', 20))) || to_jsonb(%s::text)) from generate_series(1, 5000) as n",
        host,
    )
    assert query(
        url,
        "select pg_column_size(doc) < length(doc::text) / 2, length(doc::text) > 1000000 from public.stray",
    ) == [(True, True)]
    return "TOAST of stray"


def in_a_compressed_row(url, host):
    """Short enough to stay in its row, and told in pieces: the address itself is nowhere in the file."""
    one, two, three, four = host.split(".")
    query(url, "create table public.stray (ballast text, note text compression pglz)")
    query(url, "alter table public.stray alter ballast set storage plain, alter note set storage main")
    query(
        url,
        "insert into public.stray values (repeat('x', 1700), %s || repeat('nothing of the kind; ', 60))",
        f"{one}.{two}.x .{three}.{four} seen from {host} ",
    )
    query(url, "checkpoint")
    ((path, within),) = query(
        url,
        """select current_setting('data_directory') || '/' || pg_relation_filepath('stray'),
                  reltoastrelid <> 0 and pg_relation_size(reltoastrelid) = 0 from pg_class where oid = 'stray'::regclass""",
    )
    assert within
    assert host.encode() not in Path(path).read_bytes()
    return "table stray"


def in_an_index_alone(url, host):
    _parts(url, host)
    query(url, "create index stray_host on public.stray ((a || '.' || b || '.' || c || '.' || d))")
    return "index stray_host of stray"


def in_an_unlogged_table(url, host):
    """No checkpoint writes it out: for a while it is in the server's memory alone."""
    query(url, "create unlogged table public.stray as select %s as note", f"from {host}")
    return "table stray"


def in_a_materialized_view(url, host):
    _parts(url, host)
    query(
        url,
        "create materialized view public.stray_view as select a || '.' || b || '.' || c || '.' || d as host from public.stray",
    )
    return "materialized view stray_view"


def in_statistics_of_a_dropped_table(url, host):
    query(url, "create table public.stray (note text)")
    query(url, "insert into public.stray select %s from generate_series(1, 100)", host)
    query(url, "analyze public.stray")
    query(url, "drop table public.stray")
    query(url, "checkpoint")
    return "pg_catalog.pg_statistic"


def in_the_wal(url, host):
    query(url, "select pg_logical_emit_message(false, 'stray', %s)", host)
    return "WAL segments"


def _parts(url, host):
    query(url, "create table public.stray (a int, b int, c int, d int)")
    query(url, "insert into public.stray values (%s, %s, %s, %s)", *map(int, host.split(".")))


COLUMNS = {
    in_a_live_row: ["stray.note"],
    as_binary_inet: ["stray.sources"],
    in_compressed_toast: ["stray.doc $.log[*]"],
    in_a_compressed_row: ["stray.note"],
    in_an_unlogged_table: ["stray.note"],
    in_a_materialized_view: ["stray_view.host"],
}


@pytest.mark.parametrize(
    "plant",
    [
        in_a_live_row,
        in_a_dead_row,
        as_binary_inet,
        in_compressed_toast,
        in_a_compressed_row,
        in_an_index_alone,
        in_an_unlogged_table,
        in_a_materialized_view,
        in_statistics_of_a_dropped_table,
        in_the_wal,
    ],
)
def test_red_again_for_every_single_copy_planted_back(erased, address, plant):
    erased.types("erase")  # the WAL is the server's: the databases of other tests were in it
    assert found(erased) == {}
    place = plant(erased.url, address)
    places = found(erased)
    assert [one for one in places if place in one], places
    # What stands in a column is found by the scan as well, with nobody having listed it.
    scanned = json.loads(erased.types("scan", "--format", "json", expect=None).out)["places"]
    assert [line["where"] for line in scanned] == COLUMNS.get(plant, [])
    # What was written is in the WAL as well; nothing else is named.
    assert [one for one in places if place not in one and one != "WAL segments"] == []
    if plant in (in_a_dead_row, in_statistics_of_a_dropped_table, in_the_wal):
        erased.types("erase", *(["stray"] if plant is in_a_dead_row else []))
        assert found(erased) == {}


def test_unlogged_pages_in_memory_that_could_not_be_read_are_named(erased, address, monkeypatch):
    erased.types("erase")
    in_an_unlogged_table(erased.url, address)
    monkeypatch.setattr(prove_pages, "pageinspect", lambda connection: None)
    result = proof(erased)
    assert result["state"] == "unproved"
    (line,) = [one for one in result["findings"] if one["where"] == "unlogged tables"]
    assert line["state"] == "unproved"
    assert "what the server has in memory of table stray, TOAST of stray" in line["what"]


def test_a_temporary_file_is_searched_while_its_query_is_open(erased, address):
    erased.types("erase")
    with closing(connect(erased.url, autocommit=False)) as session, session.cursor() as cursor:
        cursor.execute("set work_mem = '64kB'")
        cursor.execute(
            "declare sorted cursor for select %s || md5(n::text) from generate_series(1, 20000) as n order by md5(n::text)",
            (f"{address} ",),
        )
        cursor.execute("fetch 1 from sorted")
        places = found(erased)
        assert "they go with their query" in places.pop("temporary files")
        assert set(places) <= {"WAL segments"}
    assert "temporary files" not in found(erased)


def test_an_address_that_only_a_discarded_column_had_is_recognised_by_its_canary(operator_of):
    proved = operator_of("settled")
    query(proved.url, "insert into journals (name, submitted_from) values ('stray', '8.8.4.77')")
    proved.types("verify")
    proved.migrates()
    proved.types("erase")
    assert found(proved) == {}
    query(proved.url, "create table public.stray as select '8.8.4.77' as note")
    assert "table stray" in found(proved)


def test_what_is_no_address_of_ours_is_named_and_is_not_red(erased):
    erased.types("erase")
    query(erased.url, "create table public.releases_of as select '9.8.7.65' as version")
    result = proof(erased)
    assert result["state"] == "gone"
    (note,) = [line for line in result["findings"] if line["where"] == "other dotted texts"]
    assert "table releases_of (1)" in note["what"]


def test_without_the_salt_nothing_can_be_told_apart_and_that_is_said(erased):
    erased.types("erase")
    query(erased.url, "create table public.releases_of as select '9.8.7.65' as version")
    result = proof(erased.having(ip_salt=""))
    assert result["state"] == "found"
    assert "recognition" in {line["where"] for line in result["findings"]}


def test_a_trigger_function_that_names_the_column_is_found(erased):
    query(
        erased.url,
        "create function public.old_habit() returns trigger language plpgsql as $$ begin new.ip_address_string := null; return new; end $$",
    )
    query(
        erased.url,
        "create trigger old_habit before insert on user_events for each row execute function public.old_habit()",
    )
    places = found(erased, "--depth", "catalog")
    assert list(places) == ["user_events.ip_address_string"]


def test_a_column_that_is_still_there_is_red(proved_run):
    places = found(proved_run, "--depth", "catalog")
    assert len(places) == 7
    assert set(places.values()) == {"`backfill gates`"}


def test_pages_read_from_the_files_say_what_pageinspect_says(migrated, monkeypatch):
    def rows(operator):
        return [
            (line["where"], line["state"], line["what"])
            for line in proof(operator, "--depth", "pages")["findings"]
            if line["depth"] == "pages"
        ]

    through_server = rows(migrated)
    assert all(state == "found" for _, state, _ in through_server)
    monkeypatch.setattr(prove_pages, "pageinspect", lambda connection: None)
    assert rows(migrated) == through_server
    migrated.types("erase")
    through_files = rows(migrated)
    assert all(state == "gone" for _, state, _ in through_files)
    monkeypatch.undo()
    assert rows(migrated) == through_files


def test_files_read_through_the_server_say_what_local_files_say(migrated, monkeypatch):
    local = found(migrated)
    monkeypatch.setattr(prove_files, "local_data_directory", lambda connection: None)
    assert found(migrated).keys() == local.keys()


def test_pageinspect_is_not_left_behind(migrated):
    migrated.types("prove", "--depth", "pages", expect=1)
    assert query(migrated.url, "select 1 from pg_extension where extname = 'pageinspect'") == []


def test_a_folder_alone_is_searched_by_its_bytes(tmp_path, fresh_demo):
    base = tmp_path / "base" / "5"
    base.mkdir(parents=True)
    (tmp_path / "PG_VERSION").write_text("15\n")
    (base / "16384").write_bytes(b"\0" * 100 + b"9.8.7.65" + b"\0" * 100)
    (base / "16385").write_bytes(b"\0" * 200)
    alone = Operator(
        "", {name: text for name, text in fresh_demo.variables.items() if name != "BACKFILL_DATABASE_URL"}
    )
    assert list(found(alone, "--pgdata", str(tmp_path))) == ["file base/5/16384"]
    (tmp_path / "PG_VERSION").unlink()
    assert "PG_VERSION" in alone.types("prove", "--pgdata", tmp_path, expect=2).err


def test_the_proof_is_on_record_and_an_expiry_once_stated_is_remembered(erased):
    erased.types("erase")
    assert "NAME=DATE" in erased.types("prove", "--expires", "dumps=never", expect=None).err
    assert "restore point" in {line["name"] for line in proof(erased)["external_copies"]}
    proof(erased, "--depth", "catalog", "--expires", "restore point=2031-01-31")
    lines = {line["name"]: line["until"] for line in proof(erased, "--depth", "catalog")["external_copies"]}
    assert lines["restore point"] == "2031-01-31"
    assert lines["dumps"].startswith("unknown")
    recorded = query(erased.url, "select verdict, depth from backfill.erasure_checks order by id")
    assert recorded == [("gone", "bytes"), ("gone", "catalog"), ("gone", "catalog")]
    assert "NAME=DATE" in erased.types("prove", "--expires", "soon", expect=None).err


def test_a_standby_that_is_none_or_does_not_answer_is_said_to_be_so(erased):
    own = erased.variables["BACKFILL_DATABASE_URL"]
    lines = proof(
        erased, "--depth", "catalog", "--standby", own, "--standby", "postgresql://nobody@127.0.0.1:1/x"
    )["external_copies"]
    states = [line["state"] for line in lines if line["name"].startswith("standby")]
    assert states == ["is not a standby: a server of its own, with data of its own", "could not be asked"]


def test_scan_erase_and_prove_send_no_address_and_no_salt_to_the_server_log(proved_run):
    log = Path(query(proved_run.url, "show data_directory")[0][0]).parent / "server.log"
    if not log.exists():
        pytest.skip("the server of BACKFILL_TEST_DATABASE_URL logs elsewhere")
    known = {text for (text,) in query(proved_run.url, "select host(ip_address) from ip_addresses")}
    name = query(proved_run.url, "select current_database()")[0][0]
    query(proved_run.url, f"alter database {name} set log_statement = 'all'")
    began = log.stat().st_size
    proved_run.types("scan", "--full", expect=1)
    proved_run.migrates()
    proved_run.types("prove", expect=1)
    proved_run.types("erase")
    proved_run.types("prove")
    written = log.read_bytes()[began:].decode()
    assert "vacuum (full)" in written
    assert SALT not in written
    assert [
        text
        for text in known
        if text in written  # a thousand patterns over megabytes of log take half a minute
        and re.search(rf"(?<![0-9a-f.:]){re.escape(text)}(?![0-9a-f.:])", written)
    ] == []


def test_a_publication_is_named_with_the_tables_whose_subscribers_have_copies(erased):
    query(erased.url, "create publication to_the_warehouse for table user_events, users")
    query(erased.url, "create publication of_no_concern for table users")
    lines = {line["name"]: line for line in proof(erased, "--depth", "catalog")["external_copies"]}
    line = lines["publication to_the_warehouse"]
    assert line["state"].startswith("publishes user_events: subscribers have columns and files of their own")
    assert line["who"] == "whoever runs the subscribers"
    assert line["until"] == "dropped and erased there"
    assert "publication of_no_concern" not in lines
    said = erased.types("prove", "--depth", "catalog", "--expires", "publication to_the_warehouse=2031-01-31")
    assert re.search(r"publication to_the_warehouse .*2031-01-31", said.out)


def test_without_an_archive_no_line_speaks_of_one(erased):
    assert "WAL archive" not in {
        line["name"] for line in proof(erased, "--depth", "catalog")["external_copies"]
    }


def test_the_table_that_a_shadow_copy_replaced_is_red_while_it_is_there(erased):
    query(erased.url, "create table public.user_events_before_backfill (ip_address_string text)")
    assert found(erased, "--depth", "catalog") == {
        "user_events_before_backfill.ip_address_string": "`backfill cutover --finish user_events`"
    }


def test_a_base_backup_of_before_still_holds_everything(migrated, tmp_path):
    client = Binaries.find().folder / "pg_basebackup"
    backup = tmp_path / "backup"
    server = make_url(migrated.url)
    made = subprocess.run(
        [
            client,
            "-D",
            backup,
            "-X",
            "stream",
            "-c",
            "fast",
            "-U",
            server.username,
            "-h",
            server.query["host"],
            "-p",
            server.query["port"],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    migrated.types("erase")
    assert found(migrated) == {}
    result = proof(migrated, "--pgdata", str(backup))
    states = {line["where"]: line["state"] for line in result["findings"]}
    assert states["user_events"] == "unproved"  # the file that the table has now is not in the backup
    assert states["files of no relation"] == "found"
    assert result["state"] == "found"


def test_an_archive_is_named_and_a_standby_asked_by_its_url_and_stated_once_it_has_replayed(migrated):
    primary = Cluster("primary").init()
    standby = Cluster("standby")
    try:
        primary.start(archive_mode="on", archive_command="exit 0")
        query(primary.url(), "create database demo")
        fill_demo(primary.url("demo"), 300)
        operator = Operator(
            primary.url("demo"), environment(primary.url("demo"), migrated.variables["BACKFILL_HOME"])
        )
        operator.types("run", "--quiet")
        operator.settles_everything()
        operator.types("verify")
        operator.migrates()
        standby.copy_of(primary).start()
        operator.types("erase", "--keep-wal", expect=1)
        (archive,) = [
            one
            for one in proof(operator, "--depth", "catalog")["external_copies"]
            if one["name"] == "WAL archive"
        ]
        assert archive["state"].startswith("archive_mode is on, ")
        assert (archive["who"], archive["until"]) == ("database administrator", "its retention has passed")
        deadline = time.monotonic() + 60
        while True:
            lines = proof(operator, "--depth", "catalog", "--standby", standby.url("demo"))["external_copies"]
            states = {line["name"]: line["state"] for line in lines if line["name"].startswith("standby")}
            if set(states.values()) == {"it has replayed the rewrite: same pages"}:
                break
            assert time.monotonic() < deadline, states
        assert len(states) == 2  # as the primary sees it, and as it says itself
    finally:
        standby.remove()
        primary.remove()
