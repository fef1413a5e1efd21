"""Disclosure: the nine items of a data request, before, between and after the migrations."""

import json
import stat
import uuid
from pathlib import Path
from typing import Any

from tests.databases import query
from tests.operator import Operator

BUSIEST = """select u.username::text from users u join user_events e on e.source_id = u.id
              join journals j on j.submitted_by = u.username
             where j.submitted_from is not null and e.ip_address_string is not null
             group by 1 order by count(*) desc limit 1"""


def asked(operator: Operator, name: str) -> dict[str, dict[str, Any]]:
    """``"item table" → holding``."""
    found = json.loads(operator.types("disclose", name, "--format", "json").out)
    assert [item["item"] for item in found["items"]] == [
        "1",
        "2",
        "3a",
        "3b",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "elsewhere",
    ]
    return {f"{item['item']} {held['table']}": held for item in found["items"] for held in item["holdings"]}


def test_counts_are_those_of_the_database_and_no_value_is_shown(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    ((name,),) = query(url, BUSIEST)
    found = asked(fresh_demo, name)
    ((events, raw, geo),) = query(
        url,
        """select count(*), count(e.ip_address_string), count(e.additional -> 'geoip_info')
             from user_events e join users u on u.id = e.source_id where u.username = %s""",
        name,
    )
    held = found["3b user_events"]
    assert (held["rows"], held["columns"]["ip_address_string"]) == (events, raw)
    assert held["columns"]["additional.geoip_info"] == geo
    assert held["holds"] == {"ip_address_string": "raw address", "additional.geoip_info": "geo"}
    ((entries, froms),) = query(url, "select count(*), count(submitted_from) from journals where submitted_by = %s", name)  # fmt: skip
    assert (found["3a journals"]["rows"], found["3a journals"]["columns"]["submitted_from"]) == (
        entries,
        froms,
    )
    ((linked,),) = query(
        url,
        """select count(distinct e.ip_address_id) from user_events e join users u on u.id = e.source_id
            where u.username = %s""",
        name,
    )
    addresses = found["4 ip_addresses"]
    assert addresses["rows"] == linked
    assert addresses["holds"] == {
        "ip_address": "raw address",
        "hashed_ip_address": "hashed address",
        "geoip_info": "geo",
    }
    assert found["1 users"]["columns"] == {"username": 1, "name": 1}
    emails = query(
        url, "select email from user_emails m join users u on u.id = m.user_id where username = %s", name
    )
    text = fresh_demo.types("disclose", name).out
    assert found["2 user_emails"]["rows"] == len(emails)
    assert not any(email in text for (email,) in emails)
    raws = query(url, "select distinct ip_address_string from user_events e join users u on u.id = e.source_id where username = %s and length(ip_address_string) > 6", name)  # fmt: skip
    assert not any(value in text for (value,) in raws)
    assert "(raw address)" in text


def test_an_unknown_user_is_a_clear_line_and_1(fresh_demo: Operator) -> None:
    said = fresh_demo.types("disclose", "nobody at all", expect=1)
    assert (
        said.err
        == "backfill: No user is called nobody at all in this database: a data request about them returns nothing.\n"
    )
    assert "say whom" in fresh_demo.types("disclose", expect=2).err


def test_data_goes_only_to_a_new_file_of_ours_alone(fresh_demo: Operator, tmp_path: Path) -> None:
    ((name,),) = query(fresh_demo.url, BUSIEST)
    path = tmp_path / "data.json"
    fresh_demo.types("disclose", name, "--show-data", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    items = {item["item"]: item for item in json.loads(path.read_text())["items"]}
    ((events,),) = query(fresh_demo.url, "select count(*) from user_events e join users u on u.id = e.source_id where username = %s", name)  # fmt: skip
    (held,) = items["3b"]["holdings"]
    assert len(held["data"]) == events
    assert any(row["ip_address_string"] for row in held["data"])
    path.write_text("mine")
    assert "it is there already" in fresh_demo.types("disclose", name, "--show-data", path, expect=2).err
    assert path.read_text() == "mine"


def test_before_between_and_after_and_what_is_no_longer_returned(
    proved_run: Operator, tmp_path: Path
) -> None:
    ((name,),) = query(proved_run.url, BUSIEST)
    moments = {"before": None, "between": "0004_project_events", "after": "head"}
    for moment, revision in moments.items():
        if revision:
            proved_run.migrates(revision)
        proved_run.types("disclose", name, "--output", tmp_path / f"{moment}.json")
    after = proved_run.types("disclose", name).out
    assert "Raw addresses: none in the 10 tables asked." in after
    said = proved_run.types(
        "disclose", "--compare", tmp_path / "before.json", tmp_path / "after.json", "--format", "json"
    )
    gone = {(one["item"], one["column"]): one for one in json.loads(said.out)["differences"]}
    for column in ("user_events.ip_address_string", "journals.submitted_from", "ip_addresses.ip_address"):
        assert gone["4", column]["before"] > 0
        assert gone["4", column]["after"] is None
        assert gone["4", column]["kind"] == "raw address"
    assert not any(one["kind"] in ("hashed address", "geo") for one in gone.values())
    text = proved_run.types("disclose", "--compare", tmp_path / "before.json", tmp_path / "between.json").out
    assert (
        "No longer returned: the raw addresses in journals.submitted_from, user_events.ip_address_string."
        in text
    )
    same = proved_run.types("disclose", "--compare", tmp_path / "after.json", tmp_path / "after.json").out
    assert same == "Both requests return the same.\n"
    (tmp_path / "bad.json").write_text("[]")
    said = proved_run.types("disclose", "--compare", tmp_path / "bad.json", tmp_path / "after.json", expect=2)
    assert "is no disclosure" in said.err


ELSEWHERE = """
    create schema other;
    create table other.logins (id int primary key, user_id uuid references public.users (id), ip inet);
    create table public.sessions (id int primary key, owner citext references public.users (username), ip_address text,
                                  link uuid references public.ip_addresses (id));
    create table public.pairs (who uuid, name citext, seen inet);
    alter table public.users add unique (id, username);
    alter table public.pairs add foreign key (who, name) references public.users (id, username);
    create table public.guests (id int primary key, member uuid, ip_address text, link uuid references public.ip_addresses (id));
    create table public.strangers (id int primary key, ip_address text, link uuid references public.ip_addresses (id));
    create table public.invited (by_whom uuid references public.users (id), of_whom uuid references public.users (id), ip inet);
    alter table public.journals add column reviewed_by uuid references public.users (id);
"""
PLAN = """
name = "pypi and more"
[addresses]
table = "ip_addresses"
""" + "".join(
    f"[[jobs]]\ntable = \"{name}\"\n" for name in ("user_events", "project_events")
) + "".join(
    f"[[jobs]]\ntable = \"{name}\"\nraw = \"ip_address\"\nlink = \"link\"\nextra = \"\"\ntime = \"\"\n"
    for name in ("sessions", "guests", "strangers")
)  # fmt: skip


def test_none_is_said_of_the_tables_that_were_asked_and_every_reference_is_asked(migrated, tmp_path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    operator, url = migrated.having(plan=str(tmp_path / "plan.toml")), migrated.url
    query(url, ELSEWHERE)
    ((name, user),) = query(url, "select username::text, id::text from users order by 1 limit 1")
    plain = operator.types("disclose", name).out
    assert "Raw addresses: none in the " in plain
    assert "- strangers: no reference to the user" in plain
    operator.types("disclose", name, "--output", tmp_path / "none.json")
    ((project,),) = query(url, "select id::text from project_events limit 1")
    ((address,),) = query(url, "select id::text from ip_addresses order by id limit 1")
    query(url, "insert into other.logins values (1, %s, '203.0.113.1'), (2, %s, null)", user, user)
    query(url, "insert into sessions values (1, %s, '203.0.113.2', %s)", name.upper(), address)
    query(url, "insert into pairs values (%s, %s, '203.0.113.3')", user, name)
    query(
        url,
        "insert into guests values (1, %s, '203.0.113.4', null), (2, gen_random_uuid(), '203.0.113.5', null)",
        user,
    )
    query(
        url, "insert into invited values (null, %s, '203.0.113.6'), (%s, %s, '203.0.113.7')", user, user, user
    )
    query(
        url,
        "update project_events set additional = %s where id = %s",
        json.dumps({"by": {"who": [name]}}),
        project,
    )
    found = asked(operator, name)
    assert {where.removeprefix("elsewhere "): held["rows"] for where, held in found.items() if where.startswith("elsewhere")} == {
        "other.logins": 2, "sessions": 1, "pairs": 1, "guests": 1, "invited": 2, "journals": 0,
        "user_events": 0, "project_events": 1, "ip_addresses": 2,
    }  # fmt: skip
    said = operator.types("disclose", name).out
    assert (
        "Raw addresses: 1 in guests.ip_address" in said
        or "1 in guests.ip_address" in said.split("Raw addresses:")[1]
    )
    for column in ("1 in other.logins.ip", "1 in sessions.ip_address", "1 in pairs.seen", "2 in invited.ip"):
        assert column in said
    assert "203.0.113" not in said
    operator.types("disclose", name, "--output", tmp_path / "some.json")
    gone = operator.types("disclose", "--compare", tmp_path / "some.json", tmp_path / "none.json").out
    assert (
        "No longer returned: the raw addresses in guests.ip_address, invited.ip, other.logins.ip, pairs.seen, sessions.ip_address."
        in gone
    )


def test_what_may_not_be_read_and_what_is_gone_are_not_called_none(
    fresh_demo: Operator, tmp_path: Path
) -> None:
    query(
        fresh_demo.url, "create table secrets (id int primary key, whose uuid references users (id), ip inet)"
    )
    ((name,),) = query(fresh_demo.url, BUSIEST)
    fresh_demo.types("disclose", name, "--output", tmp_path / "before.json")
    role = f"reader_{uuid.uuid4().hex[:8]}"
    query(fresh_demo.url, f"create role {role} login")
    try:
        query(fresh_demo.url, f"grant select on all tables in schema public to {role}")
        query(fresh_demo.url, f"revoke all on secrets from {role}")
        reader = Operator(
            fresh_demo.url,
            {
                **fresh_demo.variables,
                "BACKFILL_DATABASE_URL": fresh_demo.url.replace("backfill@", f"{role}@"),
            },
        )
        said = reader.types("disclose", name).out
        assert "- secrets: its reference by whose may not be read by this role" in said
        reader.types("disclose", name, "--output", tmp_path / "after.json")
    finally:
        query(fresh_demo.url, f"drop owned by {role}")
        query(fresh_demo.url, f"drop role {role}")
    compared = fresh_demo.types(
        "disclose", "--compare", tmp_path / "before.json", tmp_path / "after.json"
    ).out
    assert "Asked before alone: secrets." in compared


def test_a_database_without_people_is_not_one_without_that_person(database: str) -> None:
    said = Operator(database, {"BACKFILL_DATABASE_URL": database}).types("disclose", "x", expect=2)
    assert "There is no table users with an id and a username" in said.err
