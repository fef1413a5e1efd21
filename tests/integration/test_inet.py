"""A raw column of type ``inet`` that becomes a link: hosts with and without their mask, networks, mapped IPv6, domains.

What a value should become is computed here, from the value as the server prints it.
"""

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path

import psycopg2.errors
import pytest
from alembic.util import CommandError

from backfill.ledger.phases import COMPARE, LINK, Phase
from tests.databases import Databases, query
from tests.demo_template import SENTINEL, environment, live_hash
from tests.integration.test_other_chain import upgrade
from tests.integration.test_pypi_shapes import STEPS, own_chain
from tests.operator import Operator

MAPPED = "::ffff:81.2.69.160"
HOSTS = [
    "81.2.69.160",
    "81.2.69.161/32",
    "2a02:2e0::17/128",
    "2A02:2E0::17",
    MAPPED,
    "::1.2.3.4",
    "2a02:2e0::",
]
NETWORKS = ["81.2.68.0/24", "81.2.69.160/24", "2a02:2e0::/32", "2a02:2e0::17/64", f"{MAPPED}/96", "0.0.0.0/0"]
TABLES = """
    create domain client as inet;
    create domain host_of_client as client check (value is null or family(value) in (4, 6));
    create table ip_addresses (
        id uuid primary key default gen_random_uuid(), ip_address inet not null unique, hashed_ip_address text unique,
        geoip_info jsonb);
    create table logins (
        id bigint generated always as identity primary key, ip_address inet, ip_address_id uuid references ip_addresses,
        additional jsonb, time timestamptz not null default now());
    create index on logins (ip_address);
    create table visits (
        id bigint generated always as identity primary key, client host_of_client not null,
        client_id uuid references ip_addresses);
    create index on visits using gist (client inet_ops);
"""
PLAN = """
name = "logins"
accept = ["dropped-along:public.logins.logins_ip_address_idx", "dropped-along:public.visits.visits_client_idx"]
[addresses]
table = "ip_addresses"
banned = ""
ban_reason = ""
ban_date = ""
[[jobs]]
table = "logins"
raw = "ip_address"
[[jobs]]
table = "visits"
raw = "client"
link = "client_id"
extra = ""
time = ""
"""
LINKED = """
    select abbrev(event.ip_address), host(known.ip_address) from logins as event left join ip_addresses as known on known.id = ip_address_id
    union all
    select abbrev(event.client), host(known.ip_address) from visits as event left join ip_addresses as known on known.id = client_id
"""


def fill(url: str) -> None:
    """Every value thrice in each table; of the addresses, three are known, one of them in two spellings."""
    query(url, TABLES)
    query(url, "insert into logins (ip_address) select unnest(%s::inet[]) from generate_series(1, 3)", [*HOSTS, *NETWORKS, None])  # fmt: skip
    query(url, "insert into visits (client) select unnest(%s::inet[]) from generate_series(1, 3)", HOSTS + NETWORKS)  # fmt: skip
    for text in ("81.2.69.160", MAPPED, "2a02:2e0::"):
        digest = None if text == MAPPED else live_hash(text)
        query(url, "insert into ip_addresses (ip_address, hashed_ip_address) values (%s, %s)", text, digest)
    query(url, "insert into ip_addresses (ip_address) values ('81.2.68.0/24')")


def by_hand(value: str | None) -> str | None:
    """The host that the value as PostgreSQL prints it is; None: a network, or nothing."""
    if value is None or "/" in value:
        return None
    address = ipaddress.ip_address(value)
    mapped = address.version == 6 and address.ipv4_mapped
    return str(mapped or address)


def linked(url: str) -> int:
    """How many rows have a link, each to its host."""
    found = query(url, LINKED)
    for value, host in found:
        if value is None:
            continue
        wanted = by_hand(value)
        if wanted is None and host == SENTINEL:
            continue  # settled so
        assert (host and by_hand(host)) == wanted, (value, host)
    return sum(value is not None and host is not None for value, host in found)


def at(url: str, home: Path, folder: Path) -> Operator:
    """Of that database, with its plan."""
    (folder / "plan.toml").write_text(PLAN)
    return Operator(url, environment(url, home)).having(
        plan=str(folder / "plan.toml"), observe="0", restore_point="nightly"
    )


@pytest.fixture
def raw(databases: Databases, clone: Callable[[str], str], home: Path, tmp_path: Path) -> Operator:
    """Before the first run."""
    databases.template("inet", fill)
    return at(clone("inet"), home, tmp_path)


def lookup(operator: Operator, address: str) -> dict[str, list[int]]:
    """By table: rows that are linked to the address, and others that spell it."""
    (answer,) = json.loads(operator.types("lookup", "--format", "json", sends=f"{address}\n").out)["answers"]
    return {table["table"]: [table["by_link"], table["by_raw_text"]] for table in answer["events"]}


def test_the_whole_way(raw: Operator, tmp_path: Path) -> None:
    """From plan to prove, beside an application that goes on writing hosts and networks."""
    url, networks, live = raw.url, 3 * len(NETWORKS), 2
    assert [cost["problem"] for cost in json.loads(raw.types("plan", "--format", "json").out)["costs"]] == [None, None]  # fmt: skip
    rows = {"logins": [0, 6], "visits": [0, 6]}
    assert lookup(raw, "81.2.69.160") == rows == lookup(raw, "2a02:2e0::17")  # no network among them

    def inserts(phase: Phase) -> None:
        if phase == LINK:  # a sweep finds them
            query(url, "insert into logins (ip_address) select unnest('{81.2.69.200,81.2.70.0/24}'::inet[]) from generate_series(1, %s)", live)  # fmt: skip

    raw.hooked(before_phase=inserts).types("run", "--quiet")
    assert linked(url) == 6 * len(HOSTS) + live
    assert lookup(raw, "81.2.69.160") == {"logins": [6, 0], "visits": [6, 0]}
    assert list(raw.waiting("logins").values()) == ["network"] * (networks + live)
    assert list(raw.waiting("visits").values()) == ["network"] * networks

    raw.types("verify", expect=1)
    refused = raw.types(
        "quarantine", "settle", "visits", "--as", "discard", "--count", networks, expect=2
    ).err
    assert "NOT NULL" in refused
    raw.types("quarantine", "settle", "visits", "--as", "sentinel", "--count", networks)
    raw.types("quarantine", "settle", "logins", "--as", "discard", "--count", networks + live)
    raw.types("addresses", "merge", "--count", 1)
    raw.types("addresses", "keep", "--count", 1)
    said = json.loads(raw.types("verify", "--format", "json").out)
    counts = {table["table"]: table["counts"] for table in said["tables"]}
    assert counts["logins"]["right"] == counts["logins"]["raw"] == 3 * len(HOSTS) + live
    assert [counts["visits"][name] for name in ("right", "settled")] == [3 * len(HOSTS), networks]
    # A host is its address letter for letter, with whatever mask: only these are other spellings.
    others = query(url, "select distinct on (job) split_part(other_spellings, '/', 1) from backfill.coverage where other_spellings is not null order by job, id desc")  # fmt: skip
    assert others == [("3",), (str(networks + 3),)]

    # Live traffic links amiss.
    query(url, "update visits set client_id = (select id from ip_addresses where ip_address = '2a02:2e0::') where client = '81.2.69.161'")  # fmt: skip
    query(url, "update logins set ip_address_id = (select id from ip_addresses where ip_address = %s) where ip_address = '81.2.69.161'", SENTINEL)  # fmt: skip
    raw.types("verify", expect=1)
    raw.types("repair", "visits", "--kind", "link", "--count", 3)
    raw.types("repair", "logins", "--kind", "sentinel", "--count", 3)
    assert linked(url) == 6 * len(HOSTS) + live + networks

    raw.types("seal", "logins")
    query(url, "insert into logins (ip_address) values ('81.2.69.9')")
    assert query(url, "select count(*) from logins where ip_address = '81.2.69.9'") == [(0,)]
    raw.types("unseal", "logins")
    raw.types("verify")

    steps = [f"{step}('{table}')" for step in ("guard_links", "validate_links", "drop_raw_column") for table in ("logins", "visits")]  # fmt: skip
    chain = own_chain(tmp_path, *steps, *STEPS)
    upgrade(raw, chain, "a00000000001")
    # The application of yesterday, and one that writes both.
    with pytest.raises(psycopg2.errors.CheckViolation, match="may not hold ip_address without ip_address_id") as error:  # fmt: skip
        query(url, "insert into logins (ip_address) values ('81.2.69.160')")
    assert "81.2" not in str(error.value)
    with pytest.raises(psycopg2.errors.CheckViolation, match="may not change client or client_id"):
        query(url, "update visits set client = '81.2.69.160/24' where client = '81.2.69.160'")
    query(url, "update visits set client = '81.2.69.160/32' where client = '81.2.69.160'")  # the same value
    query(url, "update logins set ip_address = null where ip_address = '2a02:2e0::17'")
    query(url, "insert into logins (ip_address, ip_address_id) select ip_address, id from ip_addresses where ip_address = '::1.2.3.4'")  # fmt: skip
    with pytest.raises(CommandError, match=r"let in"):
        upgrade(raw, chain, "head")
    raw.types("verify")
    upgrade(raw, chain, "head")
    assert query(url, "select relname, attname from pg_attribute join pg_class as c on c.oid = attrelid where relkind = 'r' and atttypid in ('inet'::regtype, 'host_of_client'::regtype) and relnamespace = 'public'::regnamespace") == []  # fmt: skip
    raw.types("verify")
    raw.types("erase")
    assert json.loads(raw.types("prove", "--format", "json").out)["state"] == "gone"


def test_a_copy_is_what_a_run_in_place_makes(raw: Operator) -> None:
    """Of the nullable column; a row that came after the texts were resolved is replayed."""
    url = raw.url

    def inserts(phase: Phase) -> None:
        if phase == COMPARE:
            query(url, "insert into logins (ip_address) values ('81.2.69.200'), ('81.2.70.0/24')")

    copying = raw.hooked(before_phase=inserts)
    copying.types("run", "logins", "--strategy", "shadow", "--quiet", expect=None)
    before = query(url, "select id, abbrev(ip_address) from logins")
    waiting = len(raw.waiting("logins"))
    assert waiting == 3 * len(NETWORKS) + 1
    raw.types("quarantine", "settle", "logins", "--as", "sentinel", "--count", waiting)
    raw.types("addresses", "merge", "--count", 1)
    raw.types("addresses", "keep", "--count", 1)
    raw.types("cutover", "logins")
    after = dict(query(url, "select event.id, host(ip_address) from logins as event left join ip_addresses as known on known.id = ip_address_id"))  # fmt: skip
    assert {key: by_hand(value) or (value and SENTINEL) for key, value in before} == {
        key: host and by_hand(host) for key, host in after.items()
    }
