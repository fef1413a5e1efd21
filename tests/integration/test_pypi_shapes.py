"""PyPI's database as it stood in May 2023, in 2025, and today: each goes the whole way."""

import hashlib
from pathlib import Path

import pytest
from alembic.util import CommandError

from tests.databases import query
from tests.demo_template import SENTINEL, TABLES, live_hash
from tests.integration.test_link import LOCATED, add_address, insert, linked
from tests.integration.test_other_chain import BASE, ENV, upgrade
from tests.operator import Operator

SIX = {"city", "continent_code", "country_code3", "country_code", "country_name", "region"}


def unsalted(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_may_2023(fresh_demo: Operator) -> None:
    """Readers know six keys; rows before 25 May carry unsalted hashes, the sentinel's an empty one; ``{}`` places."""
    url = fresh_demo.url
    old = query(url, "select id::text, host(ip_address) from ip_addresses where hashed_ip_address is not null and masklen(ip_address) = 32 and ip_address <> %s order by id limit 9", SENTINEL)  # fmt: skip
    for key, text in old:
        query(url, "update ip_addresses set hashed_ip_address = %s where id = %s", unsalted(text), key)
    query(url, "update ip_addresses set hashed_ip_address = '' where ip_address = %s", SENTINEL)
    query(url, "update ip_addresses set geoip_info = '{}' where geoip_info is null")
    empty = insert(url, LOCATED, {"geoip_info": {}, "a": 1})
    said = fresh_demo.types("calibrate", expect=None)
    assert "9" in said.out + said.err
    fresh_demo.types("run", "--quiet", expect=2)
    fresh_demo.types("run", "--quiet", "--accept-mismatches", 10)
    for place in (linked(url, empty)[1]["geoip_info"], *(p for (p,) in query(url, "select geoip_info from ip_addresses where geoip_info is not null"))):  # fmt: skip
        assert set(place) <= SIX
    fresh_demo.settles_everything()
    assert (
        "10 hashes are not what salt and scheme make of the address"
        in fresh_demo.types("verify", expect=1).out
    )
    fresh_demo.types("repair", "ip_addresses", "--kind", "hash", "--count", 10)
    assert query(url, "select hashed_ip_address from ip_addresses where ip_address = %s", SENTINEL) == [(live_hash(SENTINEL),)]  # fmt: skip
    fresh_demo.types("verify")
    assert query(url, "select count(*) from user_events where additional -> 'geoip_info' = '{}' and ip_address_id in (select id from ip_addresses where geoip_info <> '{}')") == [(0,)]  # fmt: skip
    fresh_demo.migrates()


LOGINS = """
    create table user_unique_logins (
        id uuid primary key default gen_random_uuid(), user_id uuid not null, ip_address text not null,
        ip_address_id uuid references ip_addresses, created timestamp not null default now(),
        constraint once unique (user_id, ip_address));
"""
PLAN_2025 = """
name = "logins"
accept = ["dropped-along:public.user_unique_logins.once"]
[addresses]
table = "ip_addresses"
[[jobs]]
table = "user_unique_logins"
raw = "ip_address"
extra = ""
time = "created"
"""


def test_2025(fresh_demo: Operator, tmp_path: Path) -> None:
    """A login's text is NOT NULL and unique with its user. What the drop takes along is named before anything is done."""
    url = fresh_demo.url
    query(url, LOGINS)
    one, other = (query(url, "select gen_random_uuid()::text")[0][0] for _ in range(2))
    for user, text in (
        (one, LOCATED),
        (one, f" {LOCATED}"),
        (other, LOCATED),
        (other, "2001:DB8::1"),
        (one, "unknown"),
    ):
        query(url, "insert into user_unique_logins (user_id, ip_address) values (%s, %s)", user, text)
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN_2025)
    operator = fresh_demo.having(plan=str(plan), observe="0", restore_point="nightly")
    said = operator.types("plan", "--no-sample", expect=None)
    assert "once" in said.out
    operator.types("run", "--quiet")
    assert query(url, "select count(*), count(ip_address_id), count(distinct ip_address_id) from user_unique_logins") == [(5, 4, 2)]  # fmt: skip
    operator.types("quarantine", "settle", "user_unique_logins", "--as", "sentinel", "--count", 1)
    operator.types("addresses", "merge", "--count", len(operator.waiting("ip_addresses")))
    operator.types("verify")
    assert query(url, "select count(*) from user_unique_logins where ip_address_id is null") == [(0,)]
    chain = own_chain(
        tmp_path,
        'guard_links("user_unique_logins")',
        'validate_links("user_unique_logins")',
        'drop_column("user_unique_logins", "ip_address")',
    )
    upgrade(operator, chain, "a00000000001")
    query(url, "insert into user_unique_logins (user_id, ip_address, ip_address_id) select user_id, '192.0.2.7', ip_address_id from user_unique_logins limit 1")  # fmt: skip
    with pytest.raises(CommandError, match=r"let in"):
        upgrade(operator, chain, "head")
    query(url, "delete from user_unique_logins where ip_address = '192.0.2.7'")
    operator.types("verify")
    upgrade(operator, chain, "head")
    assert query(url, "select string_agg(attname, ' ' order by attnum) from pg_attribute where attrelid = 'user_unique_logins'::regclass and attnum > 0 and not attisdropped") == [("id user_id ip_address_id created",)]  # fmt: skip
    assert not query(url, "select from pg_constraint where conname = 'once'")
    query(url, "insert into user_unique_logins (user_id, ip_address_id) select user_id, ip_address_id from user_unique_logins limit 1")  # fmt: skip
    operator.types("verify")
    operator.types("report")
    operator.types("status")


def test_2025_what_goes_with_the_column_keeps_it_until_it_is_accepted(
    fresh_demo: Operator, tmp_path: Path
) -> None:
    """A unique constraint that goes silently lets one login in many times."""
    query(fresh_demo.url, LOGINS)
    query(
        fresh_demo.url,
        "insert into user_unique_logins (user_id, ip_address) select gen_random_uuid(), %s",
        LOCATED,
    )
    plan = tmp_path / "plan.toml"
    plan.write_text("".join(line for line in PLAN_2025.splitlines(keepends=True) if "accept" not in line))
    operator = fresh_demo.having(plan=str(plan), observe="0", restore_point="nightly")
    operator.types("run", "--quiet")
    operator.types("addresses", "merge", "--count", len(operator.waiting("ip_addresses")))
    operator.types("verify")
    chain = own_chain(tmp_path, 'guard_links("user_unique_logins")')
    with pytest.raises(CommandError, match=r"dropped-along:public\.user_unique_logins\.once"):
        upgrade(operator, chain, "head")
    operator.types("run", "--quiet", "--accept", "dropped-along:public.user_unique_logins.once")
    operator.types("verify")
    upgrade(operator, chain, "head")


def own_chain(folder: Path, *steps: str) -> Path:
    """An application's alembic folder with a revision for each of *steps*: a00000000000, a00000000001, …"""
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "env.py").write_text(ENV)
    (versions.parent / "script.py.mako").write_text("")
    (versions / "base.py").write_text(BASE)
    before = "d0a1b2c3e4f5"
    for number, step in enumerate(steps):
        revision = f"a0000000000{number}"
        name = step.partition("(")[0]
        (versions / f"{number}_{name}.py").write_text(
            f"from backfill.gates import {name}\nrevision = {revision!r}\ndown_revision = {before!r}\n"
            f"def upgrade(): {step}\ndef downgrade(): pass\n"
        )
        before = revision
    return versions.parent


ADDRESSES_ONLY = 'name = "today"\n[addresses]\ntable = "ip_addresses"\n'
STEPS = (
    "make_address_optional()",
    "propose_hash_required()",
    "make_hash_required()",
    "drop_address_column()",
)


@pytest.fixture
def today(fresh_demo: Operator, tmp_path: Path) -> Operator:
    """The events have lost their texts; of the address table some rows have no hash, others no place that says anything."""
    url = fresh_demo.url
    for table in TABLES:
        query(url, f"update {table} set ip_address_id = null where ip_address_id in (select id from ip_addresses where ip_address = %s)", SENTINEL)  # fmt: skip
        query(url, f"alter table {table} drop column ip_address_string")
    query(url, "alter table journals drop column submitted_from")
    plan = tmp_path / "plan.toml"
    plan.write_text(ADDRESSES_ONLY)
    return fresh_demo.having(plan=str(plan), observe="0", restore_point="nightly")


def test_today(today: Operator, tmp_path: Path) -> None:
    """Only ``ip_addresses.ip_address`` is still raw: filled, verified, and dropped behind its gates."""
    url = today.url
    known = add_address(url, "203.0.113.40", None, {})
    today.types("plan")
    today.types("calibrate")
    today.types("run", "--quiet")
    assert query(url, "select hashed_ip_address from ip_addresses where id = %s", known) == [(live_hash("203.0.113.40"),)]  # fmt: skip
    today.types("addresses", "merge", "--count", len(today.waiting("ip_addresses")))
    today.types("verify")
    today.types("gates", expect=None)
    upgrade(today, own_chain(tmp_path, *STEPS), "head")
    assert query(url, "select count(*) from information_schema.columns where table_name = 'ip_addresses' and column_name = 'ip_address'") == [(0,)]  # fmt: skip
    today.types("verify")
    today.types("report")
    today.types("status")
