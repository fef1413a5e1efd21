"""Keys that look like addresses: what verify, a repair and the ledger say of their rows."""

import json
from contextlib import closing
from pathlib import Path

from psycopg2 import sql

from backfill.database.preflight.key_values import HOLDS
from backfill.database.shown_key import ADDRESS, HIDDEN, USUAL, looks_like_address
from tests.databases import connect, query
from tests.demo_template import environment, live_hash
from tests.operator import Operator
from tests.unit.test_shown_key import ADDRESSES, OTHERS

WRONG = "repeat('0', 64)"
PLAN = """name = "shown"
accept = ["addresses-among-keys:public.known.device", "before-trigger:public.plain.keeps", "before-trigger:public.known.keeps"]
[addresses]
table = "addresses"
banned = ""
ban_reason = ""
ban_date = ""
"""
SCHEMA = f"""
    create domain peer as inet;
    create table addresses (id text primary key default gen_random_uuid(), ip_address inet not null unique,
                            hashed_ip_address text unique, geoip_info jsonb);
    create function keeps() returns trigger language plpgsql as $$ begin return null; end $$;
    create table plain (device text primary key, ip text, hashed text);
    create table pairs (tenant int, device varchar(40), ip text, hashed text, primary key (tenant, device));
    create table peers (device peer primary key, ip text, hashed text);
    create table made (ip text, hashed text, device inet generated always as (ip::inet) stored not null unique);
    create table known (device text primary key, ip text, hashed text);
    create table macs (device macaddr8 primary key, ip text, hashed text);
    create table meets (device text primary key, ip text, hashed text unique);
    create table links (device text primary key, ip text, ip_address_id text references addresses);
    insert into addresses (id, ip_address, hashed_ip_address) values ('of 9.9.9.9', '9.9.9.9', {WRONG}), ('a', '5.1.0.9', %s);
    insert into plain values ('1.2.3.4|abc', '5.1.0.1', {WRONG}), ('b', '5.1.0.1', {WRONG});
    insert into pairs values (1, '1.2.3.4', '5.1.0.1', {WRONG}), (2, 'b', '5.1.0.1', {WRONG});
    insert into peers values ('::7', '5.1.0.1', {WRONG});
    insert into made values ('5.1.0.1', {WRONG});
    insert into known select * from plain;
    insert into macs values ('08:00:2b:01:02:03:04:05', '5.1.0.1', {WRONG});
    insert into meets values ('1.2.3.4|abc', '5.1.0.1'), ('1.2.3.4|abcd', '5.1.0.1');
    insert into links values ('2001:db8::7', '5.1.0.1', 'a'), ('b', '5.1.0.1', 'a');
"""
SHOWN = {
    "plain": [HIDDEN, "b"],
    "pairs": [HIDDEN, '["2", "b"]'],
    "peers": [HIDDEN],
    "made": [HIDDEN],
    "known": ["1.2.3.4|abc", "b"],
    "macs": ["08:00:2b:01:02:03:04:05"],
    "meets": [],
    "links": [HIDDEN, "b"],
    "addresses": [HIDDEN],
}


def test_a_key_that_looks_like_an_address_is_neither_shown_nor_put_on_record(
    database: str, home: Path, tmp_path: Path
) -> None:
    query(database, SCHEMA, live_hash("5.1.0.9"))
    plan = tmp_path / "shown.toml"
    lines = []
    for table in ("plain", "pairs", "peers", "made", "known", "macs", "meets"):
        key = '["tenant", "device"]' if table == "pairs" else '"device"'
        absent = table == "plain"  # what the catalog has
        lines.append(f'[[jobs]]\ntable = "{table}"\nraw = "ip"\nbecomes = "hash"\ninto = "hashed"\n')
        lines.append("" if absent else f"key = {key}\n")
    plan.write_text(PLAN + "".join(lines) + '[[jobs]]\ntable = "links"\nraw = "ip"\nextra = ""\ntime = ""\n')
    operator = Operator(database, environment(database, home)).having(plan=str(plan), workers="1")
    said = operator.types("verify", "--format", "json", expect=1)
    tables = json.loads(said.out)["tables"]
    assert {one["table"]: one["wrong_keys"] for one in tables} == SHOWN
    on_record = query(database, "select job, wrong_keys from backfill.coverage")
    assert {job.split(".")[1]: keys for job, keys in on_record} == SHOWN
    # It is counted all the same.
    assert {
        one["table"]: one["counts"]["hash_wrong"] for one in tables if one["table"] in ("plain", "peers")
    } == {
        "plain": 2,
        "peers": 1,
    }

    said = operator.types("plan", expect=2)
    assert f"another row has already: row {HIDDEN}." in said.out + said.err
    assert "1.2.3.4|abc" not in said.out + said.err

    for table in ("plain", "known"):
        query(
            database,
            f"insert into {table} select 'own' || n, '5.1.0.9', %s from generate_series(1, 3) as n",
            live_hash("5.1.0.9"),
        )
        query(
            database, f"create trigger keeps before update on {table} for each row execute function keeps()"
        )
        said = operator.types("repair", table, "--kind", "hash", "--count", 2, expect=2)
        assert f"to hashed (the first by key: {', '.join(SHOWN[table])})" in said.err


def test_server_and_client_mean_the_same_by_what_looks_like_an_address(database: str) -> None:
    statement = sql.SQL(
        "select key, {} from (select key, convert_to(key, 'UTF8') as bytes from unnest({}) as key) as k"
    )
    holds = HOLDS.format(usual=sql.Literal(USUAL), address=sql.Literal(ADDRESS))
    with closing(connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute(statement.format(holds, sql.Literal([*ADDRESSES, *OTHERS])))
        found = dict(cursor.fetchall())
    assert found == {key: looks_like_address(key) for key in (*ADDRESSES, *OTHERS)}
