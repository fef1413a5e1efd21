"""Types: whatever type and collation a raw text or a key has, a text links and its key comes back as it is."""

from pathlib import Path

import pytest
from psycopg2 import errors, sql
from sqlalchemy import make_url

from backfill.database.blocks import Range
from backfill.database.connection import execute, make_engine, rows
from backfill.jobs import batch_map, link, resolve, row_needs
from backfill.jobs.passes import Pass
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.ledger.phases import Phase, Work
from backfill.plan import Addresses, LinkJob
from tests.databases import query
from tests.demo_template import environment, live_hash
from tests.operator import Operator

SCHEMA = """
    create schema ext; create extension citext schema ext;
    {collations}
    create domain ip_text as text;
    create table ip_addresses (
        id {address_key} primary key {default}, ip_address inet not null unique,
        hashed_ip_address {hash} unique, geoip_info jsonb);
    create table logins (
        id {key} primary key, ip_address {raw}, ip_address_id {address_key} references ip_addresses, additional jsonb);
"""
ICU = """
    create collation caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    create collation shifted (provider = icu, locale = 'und-u-ka-shifted', deterministic = false);
    create collation german (provider = icu, locale = 'de');
"""
NO_ICU = 'create collation german from "POSIX";'  # another one than the map's all the same
PLAN = """
name = "types"
[addresses]
table = "ip_addresses"
banned = ""
ban_reason = ""
ban_date = ""
[[jobs]]
table = "logins"
raw = "ip_address"
time = ""
"""
UUID = ("uuid", "default gen_random_uuid()")
RAWS = [
    "char(45)", "varchar", "varchar(40)", "ip_text", "ext.citext", 'text collate "C"', "text collate german",
    "text collate caseless", "text collate shifted", 'char(45) collate "C"', "ext.citext collate german",
]  # fmt: skip
KEYS = [
    "bigint",
    "char(12)",
    "ext.citext",
    "varchar(12) collate german",
    "text collate caseless",
    "numeric",
]
# Spellings that a caseless or a careless comparison takes for one, and a text that is none.
TEXTS = [
    "2001:DB8::A",
    "2001:db8::a",
    "2001:Db8::A",
    "8.8.8.8",
    "88.8.8",
    "8.88.8",
    "NONSENSE",
    "nonsense",
    "  8.8.4.4 ",
    None,
]
RIGHT = {"2001:DB8::A": "2001:db8::a", "2001:db8::a": "2001:db8::a", "2001:Db8::A": "2001:db8::a", "8.8.8.8": "8.8.8.8", "8.8.4.4": "8.8.4.4"}  # fmt: skip


def key_of(kind: str, number: int) -> str:
    if kind in ("bigint", "numeric"):
        return str(number)
    return f"K{number}" if number % 2 else f"k{number}"


def schema(url: str, **types: str) -> str:
    """The tables with those types; skips what this server was not built for."""
    try:
        query(url, ICU)
        collations = ""
    except errors.FeatureNotSupported:
        collations = NO_ICU
    if collations and any("caseless" in one or "shifted" in one for one in types.values()):
        pytest.skip("this server was built without ICU")
    return SCHEMA.format(collations=collations, **types)


def prepared(
    url: str, home: Path, tmp_path: Path, raw: str = "text", key: str = "bigint",
    address_key: tuple[str, str] = UUID, hash_: str = "text",
) -> Operator:  # fmt: skip
    query(url, schema(url, raw=raw, key=key, address_key=address_key[0], default=address_key[1], hash=hash_))
    for number, text in enumerate(TEXTS):
        query(url, "insert into logins (id, ip_address) values (%s, %s)", key_of(key, number), text)
    query(url, "insert into ip_addresses (ip_address, hashed_ip_address) values ('8.8.8.8', %s)", live_hash("8.8.8.8"))  # fmt: skip
    query(url, "insert into ip_addresses (ip_address) values ('8.8.4.4')")
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    return Operator(url, environment(url, home)).having(plan=str(plan))


def goes_the_whole_way(operator: Operator, key: str) -> None:
    url = operator.url
    operator.types("run", "--quiet")
    found = query(
        url,
        """select l.ip_address::text, host(a.ip_address) from logins l left join ip_addresses a on a.id = l.ip_address_id""",
    )
    for text, address in found:
        assert address == (None if text is None else RIGHT.get(text.strip())), found
    bad = {key_of(key, number) for number, text in enumerate(TEXTS) if text and text.strip() not in RIGHT}
    assert {name.rstrip() for name in operator.waiting("logins")} == bad
    assert query(url, "select count(*) from ip_addresses where hashed_ip_address is null") == [(0,)]
    operator.types("quarantine", "settle", "logins", "--as", "sentinel", "--count", len(bad))
    assert query(
        url, "select count(*) from logins where ip_address is not null and ip_address_id is null"
    ) == [(0,)]
    operator.types("verify")
    # Linked amiss, and repaired by key.
    query(url, "update logins set ip_address_id = (select id from ip_addresses where ip_address = '8.8.8.8') where ip_address::text collate \"C\" = '2001:DB8::A'")  # fmt: skip
    operator.types("verify", expect=1)
    operator.types("repair", "logins", "--kind", "link", "--count", 1)
    operator.types("verify")


QUICK = {"char(45)", "ip_text", "ext.citext", "text collate caseless"}


@pytest.mark.parametrize(
    "raw", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in RAWS]
)
def test_a_raw_text_of_any_type_and_collation(database: str, home: Path, tmp_path: Path, raw: str) -> None:
    goes_the_whole_way(prepared(database, home, tmp_path, raw=raw), "bigint")


@pytest.mark.parametrize(
    "key",
    [pytest.param(one, marks=pytest.mark.slow if one in ("bigint", KEYS[3]) else ()) for one in KEYS],
)
def test_a_key_of_any_type_comes_back_as_it_is(database: str, home: Path, tmp_path: Path, key: str) -> None:
    goes_the_whole_way(prepared(database, home, tmp_path, key=key), key)


@pytest.mark.parametrize(
    ("address_key", "hash_"),
    [
        (("char(40)", "default gen_random_uuid()::text"), "char(64)"),
        (("ext.citext", "default upper(gen_random_uuid()::text)"), "ext.citext"),
        (("bigint", "generated always as identity"), "varchar(64) collate german"),
    ],
)
def test_an_address_key_and_a_hash_of_any_type(
    database: str, home: Path, tmp_path: Path, address_key: tuple[str, str], hash_: str
) -> None:
    goes_the_whole_way(prepared(database, home, tmp_path, address_key=address_key, hash_=hash_), "bigint")


@pytest.mark.parametrize("raw", ["text", 'text collate "C"', "text collate german", "text collate caseless", "ext.citext", "char(45)"])  # fmt: skip
def test_a_sweep_looks_into_the_map_by_its_index(database: str, raw: str) -> None:
    """A collation other than the map's kept its index from being used: 15 s instead of 0.1 a transaction."""
    query(database, schema(database, raw=raw, key="bigint", address_key="uuid", default=UUID[1], hash="text"))
    query(database, "insert into logins select n, '10.0.0.' || n from generate_series(1, 200) n")
    query(database, "create schema backfill")
    job = LinkJob(table="logins", raw="ip_address", time=None)
    engine = make_engine(make_url(database), ledger_schema="backfill")
    batch = Batch(1, 1, Phase(Work.LINK, 1), job.identity, Range(0, 10), 1, 0)
    text = row_needs.raw_text(job)
    texts = resolve.TEXTS.format(
        text=text,
        table=sql.Identifier("public", "logins"),
        in_range=batch.range.holds("event"),
        short=row_needs.short(text),
        may_be_address=row_needs.may_be_address(sql.SQL("fresh.raw")),
        needs_text=link.LinkWriter(job, "backfill").needs_text,
        map=address_map.name("backfill"),
    )
    with engine.begin() as connection:
        address_map.create(connection, "backfill", Addresses(table="ip_addresses"))
        execute(connection, sql.SQL("insert into backfill.address_map select 'text ' || n from generate_series(1, 20000) n; analyze backfill.address_map, public.logins"))  # fmt: skip
        execute(connection, batch_map.PROBE)
        update = link.statement(address_map.name("backfill"), job, Pass(batch.range, 0, 1), few=True)
        for statement in (texts, update):
            shown = "\n".join(line for (line,) in rows(connection, sql.SQL("explain ") + statement))
            assert "address_map_pkey" in shown, shown
            assert "Index Cond: (raw = " in shown, shown
    engine.dispose()
