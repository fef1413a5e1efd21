"""Lookup: what is known of an address before, between and after the migrations; by prompt or standard input alone."""

import json
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from backfill.hashing.salt import Salt
from backfill.ledger import keys
from tests.databases import query
from tests.demo_template import TABLES, live_hash
from tests.integration.test_link import add_address, insert
from tests.operator import Operator

V4, V6 = "203.0.113.77", "2001:db8::77:0:1"
SPELLED = {
    V4: (V4, f" {V4}", f"{V4}:8080", f"::ffff:{V4}", "::FFFF:cb00:714d", "0:0:0:0:0:ffff:203.0.113.77", f"{V4}/32"),
    V6: (V6, V6.upper(), "2001:0db8:0000:0:0:0077:0:1", f"[{V6}]:443", "2001:db8::77:0.0.0.1", f"{V6}%eth0"),
}  # fmt: skip
OTHERS = ("203.0.113.7", "203.0.113.177", f"{V4}, 10.0.0.1", "2001:db8::77:0:11", "::203.0.113.77")
NEVER, SENTINEL = "198.51.100.77", "192.0.2.69"
OLD_SALT = "the salt of an earlier key, of some length"


def asks(operator: Operator, *lines: str, words: tuple[object, ...] = (), expect: int = 0) -> dict[str, Any]:
    """What ``lookup --format json`` says of those addresses."""
    said = operator.types("lookup", "--format", "json", *words, sends="\n".join(lines), expect=expect)
    assert not [line for line in lines[-50:] if line.strip() in said.out and any(map(str.isdigit, line))]
    return json.loads(said.out)


def events(answer: dict[str, Any]) -> dict[str, tuple[int, str, str]]:
    """Rows, first and last by table; without what is dropped and kept in no form."""
    return {
        one["table"]: (one["rows"], one["first"], one["last"])
        for one in answer["events"]
        if one["table"] != "journals"
    }


@pytest.fixture
def old_salt(tmp_path: Path) -> Path:
    path = tmp_path / "old.salt"
    path.write_text(OLD_SALT)
    path.chmod(0o600)
    return path


def busiest(url: str) -> str:
    ((text,),) = query(
        url,
        """select ip_address_string from user_events where ip_address_string ~ '^[1-9][0-9.]*$'
            group by 1 order by count(*) desc, 1 limit 1""",
    )
    return str(text)


def test_the_same_is_known_before_between_and_after(
    fresh_demo: Operator, old_salt: Path, tmp_path: Path
) -> None:
    operator, url = fresh_demo, fresh_demo.url
    for texts in SPELLED.values():
        for text in texts:
            insert(url, text)
    for text in OTHERS:
        insert(url, text)
    common = busiest(url)
    lines = (common, V4, V6, NEVER, SENTINEL)
    ((first, last, number, people),) = query(
        url,
        """select min(time)::text, max(time)::text, count(*), count(distinct source_id) from user_events
            where btrim(ip_address_string) ~ ('^(::ffff:)?' || replace(%s, '.', '[.]') || '(:[0-9]+)?$')
               or ip_address_id = (select id from ip_addresses where ip_address = %s::inet)""",
        common,
        common,
    )

    before = asks(operator, *lines)
    assert [one["problem"] for one in before["answers"]] == [None] * 5
    assert events(before["answers"][0])["user_events"] == (number, first, last)
    assert before["answers"][0]["accounts"] >= people > 0
    assert [one["rows"] for one in before["answers"][1]["events"]] == [len(SPELLED[V4])]
    assert before["answers"][1]["events"][0]["by_raw_text"] == len(SPELLED[V4])
    assert [one["rows"] for one in before["answers"][2]["events"]] == [len(SPELLED[V6])]
    assert before["answers"][1]["hashes"] == {"default": live_hash(V4)}
    assert (before["answers"][3]["seen"], before["answers"][4]["sentinel"]) == (False, True)
    assert before["key_ids"] == [{"key_id": "default", "on_record": False}]
    assert {one["table"]: list(one["by"].values()) for one in before["asked"]} == {
        "ip_addresses": ["raw address", "hash"],
        **{table: ["link", "raw text"] for table in TABLES},
        "journals": ["raw text"],
    }

    operator.types("run", "--quiet")
    stages = {"run": asks(operator, *lines)}
    operator.settles_everything()
    operator.types("verify")
    for revision in ("0004_project_events", "0005a_ip_address_optional", "head"):
        operator.migrates(revision)
        stages[revision] = asks(operator, *lines)
    for stage, found in stages.items():
        for place in range(4):  # events with text that is no address were linked to the sentinel
            was, now = before["answers"][place], found["answers"][place]
            assert events(now) == events(was), stage
            assert now["accounts"] == was["accounts"] or stage not in ("run",)
            assert (now["hashes"], now["seen"]) == (was["hashes"], was["seen"])
        for answer in found["answers"][:3]:
            (row,) = [one for one in answer["rows"] if one["hash_of"] == "address"]
            assert (row["hash"], row["key_id"]) == (next(iter(answer["hashes"].values())), "default")
            assert all(one["by_raw_text"] == 0 for one in answer["events"] if one["table"] != "journals")
    after = stages["head"]
    assert {one["table"]: list(one["by"].values()) for one in after["asked"]} == {
        "ip_addresses": ["hash"],
        **{table: ["link"] for table in TABLES},
    }
    assert after["not_asked"] == [
        {"table": "journals", "why": "submitted_from is gone, and nothing of it was kept"}
    ]
    (row,) = [one for one in after["answers"][0]["rows"] if one["hash_of"] == "address"]
    located = query(url, "select geoip_info is not null from ip_addresses where id = %s", row["key"])
    assert (row["place"] is not None, row["place_source"] is not None) == located[0] * 2

    # The reverse, and the other key.
    by_hash = asks(
        operator, words=("--hash", live_hash(V4).upper(), "--row", row["key"], "--row", "no such row")
    )
    assert [(one["kind"], one["seen"]) for one in by_hash["answers"]] == [
        ("hash", True),
        ("row", True),
        ("row", False),
    ]
    assert events(by_hash["answers"][0]) == events(before["answers"][1])
    assert events(by_hash["answers"][1]) == events(before["answers"][0])
    engine = create_engine(url, execution_options={"schema_translate_map": {None: "backfill"}})
    with engine.begin() as connection:
        keys.record(connection, "2022", Salt(OLD_SALT, source="a test"))
    engine.dispose()
    assert asks(operator, V4)["key_ids_not_asked"] == ["2022"]
    assert (
        "2022: not asked: its salt is not given (--salt-file 2022=FILE)"
        in operator.types("lookup", sends=V4).out
    )
    old = Salt(OLD_SALT, source="a test").hasher("sha256-suffix")
    query(url, "insert into ip_addresses (hashed_ip_address) values (%s)", old(V4))
    (both,) = asks(operator, V4, words=("--salt-file", f"2022={old_salt}"))["answers"]
    assert {one["key_id"] for one in both["rows"]} == {"default", "2022"}
    assert both["hashes"] == {"default": live_hash(V4), "2022": old(V4)}
    said = operator.types("lookup", "--salt-file", f"2021={old_salt}", sends=V4, expect=2)
    assert "Key id 2021 is not on record" in said.err
    old_salt.write_text("another salt, which is long enough too")
    assert "salt" in operator.types("lookup", "--salt-file", f"2022={old_salt}", sends=V4, expect=2).err

    # Names only into a new file of ours alone.
    path = tmp_path / "answers.json"
    operator.types("lookup", "--show-data", path, sends=common)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (answer,) = json.loads(path.read_text())["answers"]
    assert len(answer["account_names"]) == answer["accounts"] > 0
    shown = operator.types("lookup", sends=common).out
    assert not [one for one in answer["account_names"] if one["username"] in shown]
    assert "it is there already" in operator.types("lookup", "--show-data", path, sends=common, expect=2).err


def test_bad_input_is_named_by_its_line_and_not_repeated(fresh_demo: Operator) -> None:
    operator, url = fresh_demo, fresh_demo.url
    add_address(url, "203.0.113.0/24", live_hash("203.0.113.0/24"))
    add_address(url, f"::ffff:{NEVER}")
    bad = {
        "8.8.8.0/24": "network", "8.8.8.8, 9.9.9.9": "forwarded-list", "010.1.2.3": "zero-padded",
        "unknown": "unknown", "localhost": "host-name", "x" * 100: "too-long", "1.2.3": "not-an-address",
    }  # fmt: skip
    found = asks(operator, *bad, V4, f" {V4} ", f"::FFFF:{V4}", "fe80::1%eth0", NEVER, expect=1)
    assert [one["problem"] for one in found["answers"][: len(bad)]] == list(bad.values())
    plain, spaced, mapped, zone, odd = found["answers"][len(bad) :]
    assert plain["hashes"] == spaced["hashes"] == mapped["hashes"] == {"default": live_hash(V4)}
    assert zone["hashes"] == {"default": live_hash("fe80::1")}
    assert [one["hash_of"] for one in plain["rows"]] == ["network"]
    assert [one["hash_of"] for one in odd["rows"]] == ["IPv4-mapped spelling"]
    said = operator.types("lookup", sends=f"8.8.8.0/24\n\n{V4}\n", expect=1).out
    assert "Address on line 3" in said
    assert "it is a network, and a hash is that of one address" in said
    assert "8.8.8" not in said
    for sends, problem in {
        b"": "standard input is empty",
        b"\n \n": "standard input is empty",
        b"\xff\xfe1\x00.\x002\x00": "1 line is no address, of 1",
        b"caf\xe9\n1.2.3.4 \x00": "line 2: it holds control characters",
    }.items():
        assert problem in operator.types("lookup", sends=sends, expect=2).err
    for words in (
        (V4,), ("--hash", V4), ("--row", V6), ("--format", V4), (f"--hash={V4}",), (f"--{V4}",), ("8.8.8.0/24",),
        ("junk",), ("--hash", "abc"), ("--hash", "g" * 64), ("--salt-file", "x"), ("--salt-file", f"default={V4}"),
    ):  # fmt: skip
        for command in ("lookup", "ban", "unban"):
            if command != "lookup" and words[0] == "--row":
                continue
            said = operator.types(command, *words, sends=NEVER, expect=2)
            assert not [word for word in (V4, V6, "8.8.8", "junk", "g" * 64) if word in said.err + said.out]
    said = operator.types(V4, expect=2)
    assert "`backfill lookup`" in said.err
    assert V4 not in said.err
    nowhere = asks(operator, words=("--hash", "a" * 64))
    assert not nowhere["answers"][0]["seen"]
    assert "rows of the address table have no hash yet" in operator.types("lookup", "--hash", "a" * 64).out


def test_ten_thousand_addresses_at_once(fresh_demo: Operator) -> None:
    common = busiest(fresh_demo.url)
    insert(fresh_demo.url, f"::ffff:{V4}")
    lines = [f"10.{number >> 8}.{number & 255}.1" for number in range(10_000)]
    found = asks(fresh_demo, *lines, common, V4)
    assert len(found["answers"]) == 10_002
    assert [one["rows"] for one in found["answers"][-1]["events"]] == [1]
    (alone,) = asks(fresh_demo, common)["answers"]
    assert events(alone) == events(found["answers"][-2])
    said = fresh_demo.types("lookup", sends="\n".join(lines[:50])).out
    assert "30 more answers: `--format json` has them all." in said


ELSEWHERE = """
    create table public.logins (id int primary key, address uuid references public.ip_addresses (id), who uuid references public.users (id));
    create table public.secrets (id int primary key, address uuid references public.ip_addresses (id));
    create table public.visits (id int primary key, ip text, link uuid, at timestamptz);
    alter table user_events rename ip_address_string to renamed;
"""
PLAN = """
name = "more"
[addresses]
table = "ip_addresses"
banned = ""
ban_reason = ""
ban_date = ""
[[jobs]]
table = "user_events"
[[jobs]]
table = "visits"
raw = "ip"
link = "link"
extra = ""
time = "at"
[[jobs]]
table = "not_there"
"""


def test_what_was_not_asked_is_named(proved_run: Operator, tmp_path: Path) -> None:
    url, plan = proved_run.url, tmp_path / "plan.toml"
    plan.write_text(PLAN)
    query(url, ELSEWHERE)
    ((key, user),) = query(url, "select ip.id::text, u.id::text from ip_addresses ip, users u where host(ip_address) <> '192.0.2.69' limit 1")  # fmt: skip
    query(url, "insert into logins values (1, %s, %s), (2, %s, null)", key, user, key)
    query(
        url, "insert into visits values (1, %s, null, '2020-01-01T00:00:00Z'), (2, null, %s, null)", V4, key
    )
    operator = proved_run.having(plan=str(plan))
    found = asks(operator, words=("--row", key))
    (answer,) = found["answers"]
    assert {one["table"]: one["rows"] for one in answer["events"]} | {"user_events": 0} == {
        "user_events": 0, "visits": 1, "logins.address": 2,
    }  # fmt: skip
    assert answer["rows"][0]["ban"] is None
    (text,) = asks(operator, V4)["answers"]
    assert text["events"] == [
        {"table": "visits", "rows": 1, "by_link": 0, "by_raw_text": 1, "first": "2020-01-01 00:00:00+00", "last": "2020-01-01 00:00:00+00"}
    ]  # fmt: skip
    not_asked = {one["table"]: one["why"] for one in found["not_asked"]}
    assert "stands as public.user_events.renamed, with every address" in not_asked["user_events"]
    assert "does not exist" in not_asked["not_there"]
    role = f"reader_{uuid.uuid4().hex[:8]}"
    query(url, f"create role {role} login; grant select on all tables in schema public to {role}; revoke all on users, visits from {role}; grant usage on schema backfill to {role}; grant select on all tables in schema backfill to {role}")  # fmt: skip
    try:
        reader = operator.having(database_url=url.replace("backfill@", f"{role}@"), ledger_owner="backfill")
        found = asks(reader, words=("--row", key))
        assert found["answers"][0]["accounts"] is None
        assert {"table": "visits", "why": "it may not be read by this role"} in found["not_asked"]
        assert "that this role may read" in reader.types("lookup", "--row", key).out
    finally:
        query(url, f"drop owned by {role}")
        query(url, f"drop role {role}")
    assert "names no column of bans" in operator.types("ban", sends=V4, expect=2).err
    query(url, "alter table users rename to people; alter table ip_addresses rename geoip_info to somewhere")
    (bare,) = asks(operator, words=("--row", key))["answers"]
    assert (bare["accounts"], bare["rows"][0]["place"]) == (None, None)
