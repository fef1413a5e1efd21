"""Links, and hashes beside raw values, of rows that several columns name, or none: from the first plan to the last proof."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.util import CommandError

from backfill.ledger.batches import Batch
from backfill.ledger.phases import LINK
from tests import rewritten
from tests.databases import connect, query
from tests.demo_template import environment, live_hash
from tests.integration.test_other_chain import ENV, upgrade
from tests.operator import Operator
from tests.rewritten import SPELT, TEXTS

LINKS, INTO = ("logins", "hits"), ("visits", "taps")
NAMED, UNNAMED = ("logins", "visits"), ("hits", "taps")
LATE = ("unknown", "unknown", "10.0.0.0/8", "x" * 80)
REASONS = {"unknown": 2, "network": 1, "too-long": 1}
# Of "hits", each row is there twice, alike in every column.
SCHEMA = """
    create extension citext schema public;
    create table addresses (id bigint generated always as identity primary key, ip_address inet not null unique,
                            hashed_ip_address text unique, geoip_info jsonb);
    create table logins (tenant int not null, "na""me, 100%%" citext not null, tags text[] not null, grade char(3) not null,
                         bytes bytea not null, ip text, ip_address_id bigint references addresses, at timestamptz not null default now(),
                         primary key (tenant, "na""me, 100%%", tags, grade, bytes));
    create table hits (who int, ip text, ip_address_id bigint references addresses, at timestamptz default '2026-01-01');
    create table visits (tenant int, id int, ip text, hashed_ip text, at timestamptz not null default now(), primary key (tenant, id));
    create table taps (who int, ip text, hashed_ip text, at timestamptz default '2026-01-01');
    insert into addresses (ip_address, hashed_ip_address) values ('8.8.8.8', %s);
    insert into logins (tenant, "na""me, 100%%", tags, grade, bytes, ip)
    select number %% 3, number || ', "A"', array[number::text, null], 'a', '\\x00ff22', ip from unnest(%s::text[]) with ordinality as t (ip, number);
    insert into hits (who, ip) select 1, ip from unnest(%s::text[]) as ip, generate_series(1, 2);
    insert into taps (who, ip) select who, ip from hits;
    insert into visits (tenant, id, ip) select number, 1, ip from unnest(%s::text[]) with ordinality as t (ip, number);
"""
PLAN = """name = "keys"
accept = ["before-trigger:public.hits.keeps", "after-trigger:public.hits.undoes", "before-trigger:public.taps.keeps", "after-trigger:public.taps.undoes"]
[addresses]
table = "addresses"
banned = ""
ban_reason = ""
ban_date = ""
[[jobs]]
table = "logins"
raw = "ip"
extra = ""
time = "at"
[[jobs]]
table = "hits"
raw = "ip"
extra = ""
time = "at"
[[jobs]]
table = "visits"
raw = "ip"
becomes = "hash"
into = "hashed_ip"
time = "at"
key = ["tenant", "id"]
[[jobs]]
table = "taps"
raw = "ip"
becomes = "hash"
into = "hashed_ip"
time = "at"
"""
COLUMNS = ["tenant", 'na"me, 100%', "tags", "grade", "bytes"]
GIVEN = 'tenant = %s and "na""me, 100%%" = %s and tags = %s::text[] and grade = %s and bytes = %s'
STEPS = {
    "guard": "guard_links({0!r})",
    "validate": "validate_links({0!r})",
    "drop": "drop_column({0!r}, 'ip')",
}
# A row stays as it was before, or is put back after.
TRIGGERS = """
    create function public.keeps() returns trigger language plpgsql set search_path = '' as
    $$ begin return case when old.ip in ('unknown', '8.8.8.0') then null else new end; end $$;
    create function public.undoes() returns trigger language plpgsql set search_path = '' as
    $$ begin if pg_trigger_depth() = 1 and new.ip in ('10.0.0.0/8', '::1')
             then execute format('update public.%I set %I = $1.%2$I where ip = $1.ip', tg_table_name, tg_argv[0]) using old; end if; return null; end $$;
"""


@pytest.fixture
def site(database: str, home: Path, tmp_path: Path) -> Operator:
    """Two tables that nobody has linked yet."""
    texts = [*TEXTS, *SPELT]
    query(database, SCHEMA, live_hash("8.8.8.8"), texts, texts, texts)
    known = [f"198.51.100.{number}" for number in range(1, 5)]  # by which the salt is confirmed
    query(
        database,
        "insert into addresses (ip_address, hashed_ip_address) select ip::inet, hashed from unnest(%s, %s) as t (ip, hashed)",
        known,
        list(map(live_hash, known)),
    )
    plan = tmp_path / "keys.toml"
    plan.write_text(PLAN)
    operator = Operator(database, environment(database, home))
    return operator.having(plan=str(plan), workers="1", observe="0", restore_point="monday")


def chain(folder: Path, *tables: str) -> Path:
    """Three steps for each table, called by both."""
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "env.py").write_text(ENV)
    (versions.parent / "script.py.mako").write_text("")
    before = None
    for step, does in STEPS.items():
        for table in tables:
            text = f"from backfill.gates import *\nrevision, down_revision = '{step}_{table}', {before!r}\n"
            (versions / f"{step}_{table}.py").write_text(
                text + f"def upgrade(): {does.format(table)}\ndef downgrade(): pass\n"
            )
            before = f"{step}_{table}"
    return versions.parent


def versions(url: str) -> list[tuple]:
    """Which transactions wrote the rows."""
    return [
        query(url, f"select array_agg(xmin::text order by ctid) from {table}") for table in (*LINKS, *INTO)
    ]


def reasons(operator: Operator, table: str) -> dict[str, int]:
    """Numbers of rows that wait and have no name."""
    return {entry["reason"]: entry["rows"] for entry in listed(operator, table)}


def listed(operator: Operator, table: str) -> list[dict]:
    return json.loads(operator.types("quarantine", "list", table, "--format", "json").out)["rows"]


def records(operator: Operator, expect: int = 0) -> dict[str, dict]:
    """What ``verify`` says of each table."""
    said = json.loads(operator.types("verify", "--format", "json", expect=expect).out)
    return {one["table"]: one for one in said["tables"]}


@contextmanager
def triggered(url: str, table: str, column: str, name: str) -> Iterator[None]:
    when = "before" if name == "keeps" else "after"
    query(
        url,
        f"create trigger {name} {when} update on {table} for each row execute function public.{name}('{column}')",
    )
    yield
    query(url, f"drop trigger {name} on {table}")


def require_linked(url: str) -> None:
    """Each row has what its text becomes."""
    for table, copies in (("logins", 1), ("hits", 2)):
        found = query(
            url, f"select ip, host(ip_address) from {table} left join addresses on id = ip_address_id"
        )
        assert len(found) == copies * len((*TEXTS, *SPELT))
        assert all(host == str(rewritten.canonical(text)) for text, host in found)
    for table, copies in (("visits", 1), ("taps", 2)):
        found = query(url, f"select ip, hashed_ip from {table}")
        assert len(found) == copies * len((*TEXTS, *SPELT))
        assert all(hashed == live_hash(str(rewritten.canonical(text))) for text, hashed in found)


def is_as_verified(operator: Operator, name: str) -> bool:
    """Whether that condition holds, in each gate that has it."""
    stages = json.loads(operator.types("gates", "--format", "json", expect=None).out)["gates"]
    (holds,) = {one["holds"] for stage in stages for one in stage["conditions"] if one["name"] == name}
    return bool(holds)


def test_the_whole_way_of_rows_that_several_columns_name_or_none(site: Operator, tmp_path: Path) -> None:
    url = site.url
    said = site.types("plan", expect=None).out
    assert (
        'The plan names no key of logins: its rows are named by tenant, na"me, 100%, tags, grade and bytes.'
        in said
    )
    for table in UNNAMED:
        assert f"Nothing names a row of {table}" in said
    assert "it cannot be copied: rows that are named by nothing" in said
    assert "needs a key of one column" in site.types("run", "logins", "--strategy", "shadow", expect=2).err

    begun: list[Batch] = []

    def dies(batch: Batch) -> None:
        begun.append(batch)
        if len([one for one in begun if one.phase == LINK]) > 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        site.hooked(before_batch=dies).types("run", "--quiet", "--batch-blocks", "1")
    assert "Resuming run" in site.types("run", "--quiet", "--batch-blocks", "1").out
    require_linked(url)

    # What comes late, or is no address, waits: by name, or by number. One that lies elsewhere is not written again.
    query(url, "insert into logins select 9, 'late ' || number, array['late'], 'b', '\\x01', ip from unnest(%s::text[]) with ordinality as t (ip, number)", list(LATE))  # fmt: skip
    query(url, "insert into visits select 900, number, ip from unnest(%s::text[]) with ordinality as t (ip, number)", list(LATE))  # fmt: skip
    for table in UNNAMED:
        query(url, f"insert into {table} (who, ip) select 7, ip from unnest(%s::text[]) as ip", list(LATE))
    for record in records(site, expect=1).values():
        if record["table"] != "addresses":
            assert record["counts"]["quarantined"] == len(LATE)
            assert "`backfill run`, which lists them" in record["reasons"][0]
    before = versions(url)
    site.types("run", "--quiet")
    assert versions(url) == before
    for table, columns, given in (
        ("logins", COLUMNS, GIVEN),
        ("visits", ["tenant", "id"], "tenant = %s and id = %s"),
    ):
        entries = listed(site, table)
        assert {tuple(entry["key_columns"]) for entry in entries} == {tuple(columns)}
        named = [
            query(url, f"select ip from {table} where {given}", *json.loads(one["key"])) for one in entries
        ]
        assert sorted(ip for ((ip,),) in named) == sorted(LATE)
    said = site.types("quarantine", "list").out
    for table, fate in (("hits", "sentinel"), ("taps", "discard")):
        entries = listed(site, table)
        assert {entry["reason"]: entry["rows"] for entry in entries} == REASONS
        assert all((entry["key"], entry["key_columns"]) == (None, []) for entry in entries)
        assert f"{table}: nothing names its rows" in said
        assert f"`backfill quarantine settle {table} --as {fate} --count 4`" in said

    # Keys that the application changes while their rows wait: they are no others' and nobody's.
    query(
        url,
        "update logins set tenant = 10 where ip = '10.0.0.0/8'; update visits set tenant = 901 where ip = '10.0.0.0/8'",
    )
    said = site.types("quarantine", "settle", "logins", "--as", "discard", "--count", 4, expect=2)
    assert "the count found is 3" in said.err
    site.types("run", "--quiet")
    for table in NAMED:
        site.types("quarantine", "settle", table, "--as", "discard", "--count", 4)

    # Those that are no more, or have come, since they were counted; those that a trigger keeps.
    query(url, TRIGGERS)
    for table, column, fate, name, kept in (
        ("hits", "ip_address_id", "sentinel", "undoes", 1),
        ("taps", "ip", "discard", "keeps", 4),
    ):
        query(
            url,
            f"delete from {table} where length(ip) = 80; insert into {table} (who, ip) values (8, 'unknown'), (8, 'unknown')",
        )
        said = site.types("quarantine", "settle", table, "--as", fate, "--count", 4, expect=2)
        assert "the count found is 5" in said.err
        assert reasons(site, table) == {"unknown": 4, "network": 1}
        with triggered(url, table, column, name):
            said = site.types("quarantine", "settle", table, "--as", fate, "--count", 5, expect=2)
        assert (
            f"{table}: {kept} of 5 rows did not keep what was written to {column} (nothing names them)"
            in said.err
        )
        assert name in said.err
    assert query(url, "select count(*) from hits where ip = 'unknown' and ip_address_id is null") == [(4,)]
    assert query(url, "select count(*) from taps where ip = 'unknown'") == [(4,)]
    site.types("quarantine", "settle", "taps", "--as", "discard", "--count", 5)
    assert (listed(site, "taps"), query(url, "select count(*) from taps where ip is null")) == ([], [(5,)])

    # Another session has one of them, and gives it an address; another row comes. Neither is settled.
    with closing(connect(url, autocommit=False)) as session, ThreadPoolExecutor() as pool:
        cursor = session.cursor()
        cursor.execute(
            "update hits set ip = '9.9.9.9' where ctid = (select min(ctid) from hits where ip = 'unknown')"
        )
        settling = pool.submit(site.types, "quarantine", "settle", "hits", "--as", "sentinel", "--count", 5)
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        while query(url, waits) == [(0,)]:
            assert not settling.done(), settling.result()
        cursor.execute("insert into hits (who, ip) values (9, 'unknown'), (9, 'unknown')")
        session.commit()
        assert settling.result().code == 0, settling.result()
    assert "4 rows of hits settled" in settling.result().out
    assert query(url, "select who = 9, ip from hits where ip_address_id is null order by 2") == [(False, "9.9.9.9"), (True, "unknown"), (True, "unknown")]  # fmt: skip
    settled = "select count from backfill.decisions where job = 'public.hits.ip' and kind = 'settle'"
    assert query(url, settled) == [(4,)]
    assert reasons(site, "hits") == {"unknown": 1}  # as it was counted
    query(url, "insert into hits (who, ip) values (10, '8.8.8.0'), (10, '8.8.8.0'), (9, 'a.example')")
    # A row that was settled by a key of earlier, which is called as a reason is.
    query(url, "insert into backfill.quarantine (job, row_key, key_columns, reason, run_id, decision_id) select 'public.hits.ip', 'host-name', '{who}', 'unknown', 1, max(id) from backfill.decisions")  # fmt: skip
    with triggered(url, "hits", "ip_address_id", "keeps"):
        said = site.types("run", "--quiet")
    assert "hits: 2 rows stay without a link although they were updated" in said.out + said.err
    query(url, "delete from hits where who = 10")
    assert reasons(site, "hits") == {"unknown": 2, "host-name": 1}
    site.types("quarantine", "settle", "hits", "--as", "discard", "--count", 3)
    assert listed(site, "hits") == []

    # What is not the row's own: of one of two rows that are alike.
    one_each = "ctid = any (array(select min(ctid) from {} where ip = any (%s) group by ip))"
    wrong = ["::1", "8.8.8.0", "2a00::7", "[2a00::7]:443"]
    link = "set ip_address_id = (select id from addresses where ip_address = '8.8.8.8') where"
    query(url, f"update hits {link} {one_each.format('hits')}", wrong)
    # Of the application's own in each column, by which the salt is known to be right there.
    query(url, "insert into taps (who, ip, hashed_ip) select 12, '1.1.1.1', %s from generate_series(1, 6)", live_hash("1.1.1.1"))  # fmt: skip
    query(url, "insert into visits (tenant, id, ip, hashed_ip) select 902, number, '1.1.1.1', %s from generate_series(1, 2) as number", live_hash("1.1.1.1"))  # fmt: skip
    query(url, f"update taps set hashed_ip = repeat('0', 64) where {one_each.format('taps')}", wrong)
    query(
        url,
        f"update logins {link} ip = '::1'; update visits set hashed_ip = repeat('0', 64) where ip = '::1'",
    )
    found = records(site, expect=1)
    assert [found[table]["wrong_keys"] for table in UNNAMED] == [[], []]
    assert [len(found[table]["wrong_keys"]) for table in NAMED] == [1, 1]
    assert found["hits"]["reasons"] == [
        "3 rows are linked to another address: `backfill repair hits --kind link --count 3`"
    ]
    assert found["taps"]["reasons"][0].endswith(": `backfill repair taps --kind hash --count 3`")
    for table, kind, column, name in (
        ("hits", "link", "ip_address_id", "keeps"),
        ("taps", "hash", "hashed_ip", "undoes"),
    ):
        with triggered(url, table, column, name):
            said = site.types("repair", table, "--kind", kind, "--count", 3, expect=2)
        assert (
            f"{table}: 1 of 3 rows did not keep what was written to {column} (nothing names them)" in said.err
        )
    for kind in ("link", "hash"):
        site.types("repair", "--all-tables", "--kind", kind, "--count", 4)
    site.types("verify")

    # Changed after the proof, two rows in the same way: they do not cancel each other out.
    folder = chain(tmp_path, *LINKS, *INTO)
    link = "update hits set ip_address_id = (select id from addresses where ip_address = {}) where ip = '::ffff:1.2.3.4'"
    hashed = "update taps set hashed_ip = '{}' where ip = '::1'"
    query(url, link.format("'8.8.8.8'") + "; " + hashed.format("0" * 64))
    with pytest.raises(CommandError, match="links of hits"):
        upgrade(site, folder, "guard_hits")
    assert is_as_verified(site, "hashes of taps") is False
    query(url, link.format("'1.2.3.4'") + "; " + hashed.format(live_hash("::1")))
    assert is_as_verified(site, "hashes of taps") is True
    upgrade(site, folder, "validate_taps")
    query(
        url,
        "insert into hits (who, ip, ip_address_id) select 11, ip, ip_address_id from hits where ip = '::1'",
    )
    with pytest.raises(CommandError, match="rows let in by the guard of hits: 2"):
        upgrade(site, folder, "drop_hits")
    site.types("verify")
    upgrade(site, folder, "head")
    assert query(url, "select count(*) from information_schema.columns where column_name = 'ip'") == [(0,)]
    site.types("erase")
    site.types("verify")
    proof = json.loads(site.types("prove", "--format", "json", expect=None).out)
    gone = {one["where"] for one in proof["findings"] if one["state"] == "gone"}
    assert {f"{table}.ip" for table in (*LINKS, *INTO)} <= gone
