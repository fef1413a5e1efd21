"""What names a row: keys of several columns, and tables without one, from the command as it is typed."""

import json
from pathlib import Path

import pytest

from backfill.ledger.batches import Batch
from backfill.ledger.phases import LINK
from tests import rewritten
from tests.databases import query
from tests.operator import Operator

# Texts that would be mistaken for one another if they were put together anyhow.
NAMES = ("a, b", 'a", "b', "a\\", "ä ♥", "", " ", "a\nb", "[1]", "null", "O'Hara %s", "A")
VISITS = """
    create extension if not exists citext schema public;
    create table visits (who uuid not null, seen timestamptz not null, "100%% na""me" citext not null, tags text[] not null,
                         grade char(3) not null, bytes bytea not null, ip text, note text default 'kept',
                         primary key (who, "100%% na""me", seen, tags, grade, bytes));
    insert into visits
    select md5(name)::uuid, '2026-01-01 12:00+02'::timestamptz + number * interval '1 microsecond', name, array[name, null, '"'],
           'a', '\\x00ff22', '81.2.69.' || number
      from unnest(%s::text[]) as name cross join generate_series(1, 3) as number;
"""
HITS = "create table {0} (who int, ip text, note text default 'kept'); insert into {0} select i % 5, '81.2.69.' || i from generate_series(1, 60) as i"
KEEPS = """
    create function skips() returns trigger language plpgsql set search_path = '' as
    $$ begin return case when new.who in (101, 102) then null else new end; end $$;
    create function undoes() returns trigger language plpgsql set search_path = '' as
    $$ begin if new.who in (103, 104) and pg_trigger_depth() = 1
             then update public.emptied set ip = old.ip where who = new.who; end if; return null; end $$;
    create trigger skips before update on emptied for each row execute function skips();
    create trigger undoes after update on emptied for each row execute function undoes();
"""
LATE = ("unknown", "unknown", "10.0.0.0/8", "x" * 80)
COLUMNS = ("who", '100% na"me', "seen", "tags", "grade", "bytes")
GIVEN = 'who = %s and "100%% na""me" = %s and seen = %s and tags = %s::text[] and grade = %s and bytes = %s'
KINDS = {"refused": "refuse", "kept": "keep", "emptied": "nothing"}


def listed(operator: Operator, table: str) -> list[dict]:
    """What waits, or is kept as the plan says."""
    said = json.loads(operator.types("quarantine", "list", table, "--format", "json").out)
    return said["rows"] + said["kept"]


@pytest.fixture
def site(database: str, home: Path, tmp_path: Path) -> Operator:
    """Four tables that were rewritten, and into which the application has written since."""
    query(database, VISITS, list(NAMES))
    for name in KINDS:
        query(database, HITS.format(name))
    visits = {"table": "visits", "raw": "ip", "becomes": "hash", "unreadable": "refuse"}
    hits = [
        {"table": name, "raw": "ip", "becomes": "network", "unreadable": fate} for name, fate in KINDS.items()
    ]
    plan = rewritten.plan_file(tmp_path, visits, *hits)
    operator = rewritten.operator(database, home, plan).having(workers="1")
    said = operator.types("plan", expect=None)
    assert (
        'The plan names no key of visits: its rows are named by who, 100% na"me, seen, tags, grade and bytes.'
        in said.out
    )
    assert said.out.count("Nothing names a row of") == len(KINDS)
    rewritten.run(operator, "--quiet")
    operator.types("verify")
    query(database, "update visits set ip = 'somewhere' where seen = '2026-01-01 10:00:00.000002+00'")
    query(database, "update visits set ip = '192.0.2.9' where seen = '2026-01-01 10:00:00.000003+00'")
    for name in KINDS:
        query(
            database,
            f"insert into {name} (who, ip) select 7, unnest(%s::text[])",
            [*LATE, "192.0.2.9", "192.0.2.9"],
        )
    operator.types("run", "--quiet")
    return operator


def test_rows_are_named_by_several_columns_or_counted(site: Operator) -> None:
    url = site.url
    entries = listed(site, "visits")
    assert len(entries) == len(NAMES)
    assert {tuple(entry["key_columns"]) for entry in entries} == {COLUMNS}
    assert {entry["rows"] for entry in entries} == {1}
    for entry in entries:
        found = query(url, f"select ip from visits where {GIVEN}", *json.loads(entry["key"]))
        assert found == [("somewhere",)]
    assert query(url, "select count(*) from visits where ip = %s", rewritten.hashed("192.0.2.9")) == [
        (len(NAMES),)
    ]
    assert 'who, 100% na"me, seen, tags, grade, bytes = ["' in site.types("quarantine", "list", "visits").out

    reasons = {"unknown": 2, "network": 1, "too-long": 1}
    for name, fate in KINDS.items():
        assert query(url, f"select count(*) from {name} where ip = '192.0.2.0'") == [(2,)], name
        left = query(
            url, f"select count(*), count(ip) from {name} where who = 7 and ip is distinct from '192.0.2.0'"
        )
        assert left == [(4, 0 if fate == "nothing" else 4)], name
        entries = listed(site, name)
        assert {entry["reason"]: entry["rows"] for entry in entries} == (
            {} if fate == "nothing" else reasons
        ), name
        assert all((entry["key"], entry["key_columns"]) == (None, []) for entry in entries), name
    said = site.types("quarantine", "list", "refused").out
    assert "nothing names its rows" in said
    assert "row key" not in said

    # Other columns name the rows, then none does: entries follow.
    query(
        url,
        "alter table visits drop constraint visits_pkey, add number bigint generated always as identity primary key",
    )
    query(
        url,
        "alter table refused add id text; update refused set id = who || '/' || coalesce(note, '') || ctid::text",
    )
    query(url, "alter table refused alter id set not null, add unique (id)")
    site.types("run", "--quiet")
    numbers = query(url, "select number::text from visits where ip = 'somewhere' order by 1")
    assert sorted(entry["key"] for entry in listed(site, "visits")) == [number for (number,) in numbers]
    texts = query(url, "select id from refused where who = 7 and ip <> '192.0.2.0' order by 1")
    assert sorted(entry["key"] for entry in listed(site, "refused")) == sorted(text for (text,) in texts)
    dropped: list[Batch] = []

    def drops(batch: Batch) -> None:
        if batch.phase == LINK and not dropped:
            dropped.append(batch)
            query(url, "alter table visits drop constraint visits_pkey")

    query(url, "alter table refused drop constraint refused_id_key")
    query(url, "update visits set ip = '192.0.2.8' where seen = '2026-01-01 10:00:00.000001+00'")
    said = site.hooked(before_batch=drops).types("run", "--quiet")
    assert dropped
    assert "visits was changed meanwhile; preflight found nothing in the way" in said.out + said.err
    assert [(entry["reason"], entry["rows"]) for entry in listed(site, "visits")] == [
        ("host-name", len(NAMES))
    ]
    assert sum(entry["rows"] for entry in listed(site, "refused")) == len(LATE)

    # Whatever is on record: rows are counted from the table.
    query(url, "delete from backfill.quarantine where job = 'public.refused.ip'")
    said = site.types("verify", expect=1)
    assert "4 rows hold a text that is no address" in said.out
    assert "their number by reason" in said.out
    query(
        url,
        "delete from refused where ip = '10.0.0.0/8'; update refused set ip = '192.0.2.77' where length(ip) = 80",
    )
    assert f"{len(NAMES) + 2} rows wait in the quarantine" in site.types("run", "--quiet").out
    assert {entry["reason"]: entry["rows"] for entry in listed(site, "refused")} == {"unknown": 2}
    query(url, "delete from refused where ip = 'unknown'; delete from visits where ip = 'somewhere'")
    assert "in the quarantine." not in site.types("run", "--quiet").out
    site.types("verify")

    # Where nothing names the rows that a trigger keeps as they are, they are found by where they lie.
    query(url, KEEPS)
    query(url, "insert into emptied (who, ip) select 100 + n, '192.0.2.9' from generate_series(1, 5) as n")
    accept = (
        "--accept",
        "before-trigger:public.emptied.skips",
        "--accept",
        "after-trigger:public.emptied.undoes",
    )
    said = site.types("run", "--quiet", *accept)
    assert "emptied: 4 rows stay as they are although they were updated" in said.out + said.err
    assert query(url, "select who from emptied where ip = '192.0.2.9' order by 1") == [
        (101,),
        (102,),
        (103,),
        (104,),
    ]
