"""A plan file for a table of another shape in another schema: no JSON, no time, a key and columns of other names."""

import json
from pathlib import Path

import pytest

from tests.databases import query
from tests.demo_template import GEO_PATH, GeoByHand, environment, live_hash, read_by_hand
from tests.operator import Operator

SCHEMA = """
    create schema "Accounts";
    create table "Accounts".addresses (
        number bigint generated always as identity primary key, "Address" inet not null unique,
        digest text unique, place jsonb);
    create table "Accounts".user_unique_logins (
        login_id bigint generated always as identity primary key, user_name text not null,
        ip_address text, ip_address_id bigint references "Accounts".addresses);
"""
PLAN = """name = "accounts"
[addresses]
schema = "Accounts"
table = "addresses"
key = "number"
address = "Address"
hash = "digest"
geo = "place"
banned = ""
ban_reason = ""
ban_date = ""
[[jobs]]
schema = "Accounts"
table = "user_unique_logins"
key = "login_id"
raw = "ip_address"
link = "ip_address_id"
extra = ""
time = ""
"""
TEXTS = [
    "8.8.8.8",
    " 8.8.8.8",
    "::ffff:8.8.8.8",
    "2001:4860:4860::8888",
    "198.51.100.1",
    "nonsense, really",
    "",
    None,
]
JOB = "Accounts.user_unique_logins"


@pytest.fixture
def accounts(database: str, home: Path, tmp_path: Path) -> Operator:
    assert GEO_PATH
    query(database, SCHEMA)
    for text in TEXTS * 40:
        query(database, 'insert into "Accounts".user_unique_logins (user_name, ip_address) values (%s, %s)', "x", text)  # fmt: skip
    query(
        database,
        'insert into "Accounts".addresses ("Address", digest) values (%s, %s)',
        "8.8.8.8",
        live_hash("8.8.8.8"),
    )
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    return Operator(database, environment(database, home)).having(plan=str(plan))


def test_it_goes_from_plan_to_a_green_verification(accounts: Operator) -> None:
    url = accounts.url
    assert JOB in accounts.types("plan").out
    accounts.types("calibrate")
    accounts.types("run", JOB, "--quiet", "--batch-blocks", "1")
    linked = query(
        url,
        """select login.ip_address, host(known."Address")
             from "Accounts".user_unique_logins login left join "Accounts".addresses known on number = ip_address_id""",
    )
    assert len(linked) == 40 * len(TEXTS)
    assert all(address == (None if raw is None else read_by_hand(raw)) for raw, address in linked)
    geo = GeoByHand()
    for host, digest, place in query(url, 'select host("Address"), digest, place from "Accounts".addresses'):
        assert digest == live_hash(host)
        assert place == geo(host)
    geo.close()
    said = json.loads(accounts.types("verify", "--format", "json", expect=1).out)
    assert said["tables"][0]["counts"]["quarantined"] == 80
    accounts.types("quarantine", "settle", JOB, "--as", "discard", "--count", 80)
    accounts.types("addresses", "merge", "--count", 0)
    accounts.types("verify")
    said = json.loads(accounts.types("report", "--format", "json").out)
    assert [(table["table"], table["covered"]) for table in said["tables"]] == [(JOB, True), ("Accounts.addresses", True)]  # fmt: skip


def test_a_second_run_writes_nothing_there_either(accounts: Operator) -> None:
    accounts.types("run", "--quiet")
    place = 'select array_agg(xmin::text order by login_id) from "Accounts".user_unique_logins'
    before = query(accounts.url, place)
    accounts.types("run", "--quiet")
    assert query(accounts.url, place) == before


def test_duplicates_merge_without_ban_columns(accounts: Operator) -> None:
    query(accounts.url, """insert into "Accounts".addresses ("Address") values ('::ffff:8.8.8.8')""")
    accounts.types("run", "--quiet")
    assert len(accounts.waiting("Accounts.addresses")) == 1
    accounts.types("addresses", "merge", "--count", 1)
    assert accounts.waiting("Accounts.addresses") == {}


def test_the_built_in_chain_says_that_it_is_not_for_this_plan(accounts: Operator) -> None:
    accounts.types("run", "--quiet")
    refusal = accounts.is_refused()
    assert "which plan accounts does not" in refusal
    assert "docs/migrate.md" in refusal
