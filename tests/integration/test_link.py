"""What a link does to a row: every kind of ``additional``, and the live application's word above ours."""

import json
import uuid
from typing import Any

import pytest

from tests.databases import query
from tests.demo_template import GeoByHand, live_hash
from tests.operator import Operator

LOCATED = "8.8.8.8"  # has a place in any City database
NOWHERE = "198.51.100.7"  # a documentation address: no place, ever
UNSET = object()


@pytest.fixture(scope="module")
def place() -> Any:
    geo = GeoByHand()
    found = geo(LOCATED)
    geo.close()
    return found


def insert(
    url: str, raw: str | None, extra: Any = UNSET, link: str | None = None, table: str = "user_events"
) -> str:
    """A row with that text; *extra* is JSON, or SQL NULL when it is not given. Returns its id."""
    key = str(uuid.uuid4())
    source = query(url, f"select source_id from {table} limit 1")[0][0]
    query(
        url,
        f"""insert into {table} (id, source_id, tag, time, ip_address_string, additional, ip_address_id)
            values (%s, %s, 'test', '2016-02-03', %s, %s, %s)""",
        key, source, raw, None if extra is UNSET else json.dumps(extra), link,
    )  # fmt: skip
    return key


def add_address(url: str, address: str, digest: str | None = None, geo: Any = None) -> str:
    """A row that the live application made."""
    return query(
        url,
        """insert into ip_addresses (ip_address, hashed_ip_address, geoip_info) values (%s, %s, %s)
           returning id::text""",
        address, digest, None if geo is None else json.dumps(geo),
    )[0][0]  # fmt: skip


def linked(url: str, key: str) -> tuple[str | None, Any, bool]:
    """Address, ``additional``, and whether that is SQL NULL."""
    return query(
        url,
        """select host(ip.ip_address), e.additional, e.additional is null
             from user_events e left join ip_addresses ip on ip.id = e.ip_address_id where e.id = %s""",
        key,
    )[0]


# One run has all cases of a test: each is a row of its own.


def test_an_event_without_geo_gets_it_beside_what_it_had(fresh_demo: Operator, place: Any) -> None:
    cases = [
        *(UNSET, None, {}, {"a": 1}, {"geoip_info": None}, {"a": None, "geoip_info": None}),
        *({"geoip_info": {}}, {"a": 1, "geoip_info": {"city": "?", "region": "", "country_code": None}}),
    ]
    keys = [insert(fresh_demo.url, LOCATED, before) for before in cases]
    fresh_demo.types("run", "user_events", "--quiet")
    for key, before in zip(keys, cases, strict=True):
        had = {} if before is UNSET or before is None else before
        assert linked(fresh_demo.url, key) == (LOCATED, {**had, "geoip_info": place}, False), before


def test_anything_else_is_no_place_for_geo_and_is_left_alone(fresh_demo: Operator) -> None:
    cases: list[Any] = [["a", 1], [], "text", 7, True, False, 0.5]
    keys = [insert(fresh_demo.url, LOCATED, before) for before in cases]
    fresh_demo.types("run", "user_events", "--quiet")
    for key, before in zip(keys, cases, strict=True):
        assert linked(fresh_demo.url, key) == (LOCATED, before, False), before


def test_a_geo_that_is_there_wins(fresh_demo: Operator) -> None:
    cases: list[Any] = [{"city": "Of the time"}, {"other": 0}, {"city": "?", "region": "be"}, "text", [1], ""]
    keys = [insert(fresh_demo.url, LOCATED, {"geoip_info": geo, "b": 2}) for geo in cases]
    fresh_demo.types("run", "user_events", "--quiet")
    for key, geo in zip(keys, cases, strict=True):
        assert linked(fresh_demo.url, key) == (LOCATED, {"geoip_info": geo, "b": 2}, False), geo


def test_an_address_without_a_place_changes_nothing_but_the_link(fresh_demo: Operator) -> None:
    cases = [UNSET, None, {"a": 1}, [1]]
    keys = [insert(fresh_demo.url, NOWHERE, before) for before in cases]
    fresh_demo.types("run", "user_events", "--quiet")
    for key, before in zip(keys, cases, strict=True):
        was = None if before is UNSET else before
        assert linked(fresh_demo.url, key) == (NOWHERE, was, before is UNSET), before


def test_the_live_applications_link_wins_and_its_row_still_gets_geo(fresh_demo: Operator, place: Any) -> None:
    url = fresh_demo.url
    other = add_address(url, "203.0.113.99", live_hash("203.0.113.99"))
    key = insert(url, LOCATED, {"a": 1}, link=other)
    fresh_demo.types("run", "user_events", "--quiet")
    assert linked(url, key) == ("203.0.113.99", {"a": 1, "geoip_info": place}, False)


def test_a_row_without_a_text_gets_the_place_of_the_address_that_it_is_linked_to(
    settled_run: Operator, place: Any
) -> None:
    url = settled_run.url
    cases = [UNSET, None, {"a": 1}, {"geoip_info": {}}, [1], {"geoip_info": {"city": "x"}}]
    there = query(url, "select id::text from ip_addresses where ip_address = %s", LOCATED)
    known = there[0][0] if there else add_address(url, LOCATED, live_hash(LOCATED))
    bare = insert(url, None, {"a": 1})
    keys = [insert(url, None, before, link=known) for before in cases]
    settled_run.types("run", "--quiet")
    assert linked(url, bare) == (None, {"a": 1}, False)
    lacked = []
    for key, before in zip(keys, cases, strict=True):
        had = {} if before is UNSET or before is None else before
        lacks = isinstance(had, dict) and not had.get("geoip_info")
        assert linked(url, key) == (LOCATED, {**had, "geoip_info": place} if lacks else before, False), before
        lacked += [key] * lacks
    assert "lack the geo" not in settled_run.types("verify").out
    assert len(lacked) == 4
    query(url, "update user_events set additional = null where id = %s", lacked[-1])
    assert "1 row that is linked and holds no text lacks the geo" in settled_run.types("verify").out


def test_what_the_live_application_stored_about_an_address_stays(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    key = add_address(url, LOCATED, live_hash(LOCATED), {"city": "Of the edge"})
    query(url, "update ip_addresses set is_banned = true, ban_reason = 'authentication-attempts', ban_date = '2023-01-02' where id = %s", key)  # fmt: skip
    insert(url, f" {LOCATED} ")
    fresh_demo.types("run", "user_events", "--quiet")
    assert query(
        url,
        "select hashed_ip_address, geoip_info, is_banned, ban_date::text from ip_addresses where id = %s",
        key,
    ) == [(live_hash(LOCATED), {"city": "Of the edge"}, True, "2023-01-02 00:00:00")]


def test_what_the_live_application_left_empty_is_filled(fresh_demo: Operator, place: Any) -> None:
    url = fresh_demo.url
    linked_to, unused = add_address(url, LOCATED), add_address(url, "8.8.4.4")
    query(url, "update ip_addresses set geoip_info = 'null' where id = %s", unused)
    insert(url, LOCATED)
    fresh_demo.types("run", "user_events", "--quiet")
    state = "select hashed_ip_address, geoip_info from ip_addresses where id = %s"
    assert query(url, state, linked_to) == [(live_hash(LOCATED), place)]
    ((digest, geo),) = query(url, state, unused)
    assert digest == live_hash("8.8.4.4")
    assert geo["country_code"] == "US"


def test_what_the_edge_knows_goes_into_the_event_where_our_database_knows_nothing(
    fresh_demo: Operator,
) -> None:
    add_address(fresh_demo.url, NOWHERE, live_hash(NOWHERE), {"city": "Of the edge"})
    key = insert(fresh_demo.url, NOWHERE, {"a": 1})
    fresh_demo.types("run", "user_events", "--quiet")
    assert linked(fresh_demo.url, key)[1] == {"a": 1, "geoip_info": {"city": "Of the edge"}}


def test_what_readers_would_choke_on_is_not_copied_from_the_edge(fresh_demo: Operator) -> None:
    cases: dict[str, Any] = {
        "198.51.100.7": {"city": "X", "postal": "1"},
        "198.51.100.8": {},
        "198.51.100.9": [],
        "198.51.100.10": "text",
    }
    for address, geo in cases.items():
        add_address(fresh_demo.url, address, live_hash(address), geo)
    keys = {address: insert(fresh_demo.url, address, {"a": 1}) for address in cases}
    fresh_demo.types("run", "user_events", "--quiet")
    for address, key in keys.items():
        assert linked(fresh_demo.url, key)[:2] == (address, {"a": 1})


def test_every_spelling_leads_to_the_one_row(fresh_demo: Operator) -> None:
    cases = {
        "::FFFF:8.8.8.8": LOCATED,
        LOCATED: LOCATED,
        "8.8.8.8:53": LOCATED,
        "8.8.8.8/32": LOCATED,
        "2001:0DB8:0::0001%eth0": "2001:db8::1",
        "2001:db8::1": "2001:db8::1",
    }
    keys = {text: insert(fresh_demo.url, text) for text in cases}
    fresh_demo.types("run", "user_events", "--quiet")
    for text, address in cases.items():
        assert linked(fresh_demo.url, keys[text])[0] == address, text
    for address in set(cases.values()):
        assert query(
            fresh_demo.url, "select hashed_ip_address from ip_addresses where host(ip_address) = %s", address
        ) == [(live_hash(address),)]
