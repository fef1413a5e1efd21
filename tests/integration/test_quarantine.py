"""The quarantine: what enters it, what leaves it, and what the operator decides about the rest."""

import uuid

import pytest

from tests.databases import query
from tests.demo_template import SENTINEL, TABLES, live_hash, read_by_hand
from tests.integration.test_link import add_address, insert, linked
from tests.names import identity
from tests.operator import Operator

REASONS = {
    "": "empty", "  ": "empty", "unknown": "unknown", "-": "unknown", "localhost": "host-name",
    "proxy.example.net": "host-name", "1.2.3.4, 5.6.7.8": "forwarded-list", "10.0.0.0/8": "network",
    "010.1.2.3": "zero-padded", "1.2.3.4\x1b": "control-characters", "1.2.3.4.5": "not-an-address",
    "1.2.3.4" + " " * 64: "too-long", "x" * 10_000: "too-long",
}  # fmt: skip


@pytest.fixture
def quarantined_rows(fresh_demo: Operator) -> dict[str, str]:
    """``row id → text`` of rows that hold every kind of text that is no address, after a run."""
    rows = {insert(fresh_demo.url, text): text for text in REASONS}
    fresh_demo.types("run", "user_events", "--quiet")
    return rows


def raws(operator: Operator, keys: list[str]) -> list[str | None]:
    found = query(operator.url, "select ip_address_string from user_events where id = any(%s::uuid[])", keys)
    return [raw for (raw,) in found]


def test_each_text_that_is_no_address_waits_under_its_reason(
    fresh_demo: Operator, quarantined_rows: dict[str, str]
) -> None:
    waiting = fresh_demo.waiting("user_events")
    assert {quarantined_rows[key]: waiting[key] for key in quarantined_rows} == REASONS
    assert all(linked(fresh_demo.url, key)[0] is None for key in quarantined_rows)


def test_the_quarantine_is_exactly_what_is_no_address_and_has_no_link(finished_run: Operator) -> None:
    for table in TABLES:
        rows = query(
            finished_run.url,
            f"select id::text, ip_address_string from {table} where ip_address_id is null and ip_address_string is not null",
        )
        assert set(finished_run.waiting(table)) == {key for key, _ in rows}
        assert all(read_by_hand(raw) is None for _, raw in rows)


@pytest.mark.usefixtures("quarantined_rows")
def test_the_list_shows_keys_and_reasons_and_never_a_value(fresh_demo: Operator) -> None:
    said = fresh_demo.types("quarantine", "list").out
    assert all(reason in said for reason in set(REASONS.values()))
    for text in ("localhost", "proxy.example.net", "10.0.0.0/8", "010.1.2.3", "1.2.3.4"):
        assert text not in said
    number = len(fresh_demo.waiting("user_events"))
    assert (
        f"backfill quarantine settle user_events --as sentinel --count {number}` (or `--as discard`)" in said
    )


def test_mended_rows_leave_at_the_next_run(fresh_demo: Operator, quarantined_rows: dict[str, str]) -> None:
    url = fresh_demo.url
    fixed, emptied, linked_live, gone, *others = quarantined_rows
    query(url, "update user_events set ip_address_string = '8.8.8.8' where id = %s", fixed)
    query(url, "update user_events set ip_address_string = null where id = %s", emptied)
    query(url, "update user_events set ip_address_id = (select id from ip_addresses limit 1) where id = %s", linked_live)  # fmt: skip
    query(url, "delete from user_events where id = %s", gone)
    fresh_demo.types("run", "user_events", "--quiet")
    waiting = fresh_demo.waiting("user_events")
    assert not {fixed, emptied, linked_live, gone} & set(waiting)
    assert set(others) <= set(waiting)
    assert linked(url, fixed)[0] == "8.8.8.8"


def test_a_text_that_changed_waits_under_its_new_reason(
    fresh_demo: Operator, quarantined_rows: dict[str, str]
) -> None:
    key = next(iter(quarantined_rows))
    query(fresh_demo.url, "update user_events set ip_address_string = 'localhost' where id = %s", key)
    fresh_demo.types("run", "user_events", "--quiet")
    assert fresh_demo.waiting("user_events")[key] == "host-name"


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("fate", ["sentinel", "discard"])
def test_a_wrong_count_settles_nothing(finished_run: Operator, fate: str, off: int) -> None:
    waiting = finished_run.waiting("user_events")
    look = "select md5(string_agg(e::text, '|' order by id)) from user_events e"
    before = query(finished_run.url, look)
    count = len(waiting) + off
    said = finished_run.types("quarantine", "settle", "user_events", "--as", fate, "--count", count, expect=2)
    assert said.err == (
        f"backfill: Quarantine of user_events: the count given is {count}, the count found is {len(waiting)}. "
        "Nothing was changed. Look with `backfill quarantine settle user_events`, then repeat with the count you mean.\n"
    )
    assert query(finished_run.url, look) == before
    assert finished_run.waiting("user_events") == waiting
    assert query(finished_run.url, "select count(*) from backfill.decisions") == [(0,)]


def test_settled_as_sentinel_the_rows_keep_their_text_and_get_the_sentinels_link(
    finished_run: Operator,
) -> None:
    keys = list(finished_run.waiting("user_events"))
    before = raws(finished_run, keys)
    finished_run.types("quarantine", "settle", "user_events", "--as", "sentinel", "--count", len(keys))
    assert {linked(finished_run.url, key)[0] for key in keys} == {SENTINEL}
    assert raws(finished_run, keys) == before
    assert finished_run.waiting("user_events") == {}
    assert query(
        finished_run.url, "select kind, job, count, detail, decided_by <> '' from backfill.decisions"
    ) == [("settle", identity("user_events"), len(keys), {"fate": "sentinel"}, True)]


def test_settled_as_discard_the_rows_lose_their_text_and_nothing_else(finished_run: Operator) -> None:
    keys = list(finished_run.waiting("user_events"))
    look = "select array_agg((id, source_id, tag, time, additional, ip_address_id)::text order by id) from user_events"
    before = query(finished_run.url, look)
    finished_run.types("quarantine", "settle", "user_events", "--as", "discard", "--count", len(keys))
    assert raws(finished_run, keys) == [None] * len(keys)
    assert query(finished_run.url, look) == before
    assert query(finished_run.url, "select kind, count, detail from backfill.decisions") == [
        ("settle", len(keys), {"fate": "discard"})
    ]


@pytest.mark.parametrize("fate", ["sentinel", "discard"])
def test_settling_judges_each_text_once_more(finished_run: Operator, fate: str) -> None:
    url = finished_run.url
    fixed, *others = finished_run.waiting("user_events")
    query(url, "update user_events set ip_address_string = '8.8.8.8' where id = %s", fixed)
    said = finished_run.types("quarantine", "settle", "user_events", "--as", fate, "--count", len(others) + 1)
    assert f"{len(others)} rows of user_events settled as {fate}" in said.out
    assert query(url, "select ip_address_string, ip_address_id from user_events where id = %s", fixed) == [("8.8.8.8", None)]  # fmt: skip
    finished_run.types("run", "user_events", "--quiet")
    assert linked(url, fixed)[0] == "8.8.8.8"
    assert finished_run.waiting("user_events") == {}


def test_a_sentinel_that_is_missing_is_made_with_its_hash(finished_run: Operator) -> None:
    url = finished_run.url
    query(url, "update user_events set ip_address_id = null where ip_address_id = (select id from ip_addresses where host(ip_address) = %s)", SENTINEL)  # fmt: skip
    query(url, "delete from ip_addresses where host(ip_address) = %s", SENTINEL)
    finished_run.types("run", "user_events", "--quiet")
    number = len(finished_run.waiting("user_events"))
    finished_run.types("quarantine", "settle", "user_events", "--as", "sentinel", "--count", number)
    assert query(url, "select hashed_ip_address from ip_addresses where host(ip_address) = %s", SENTINEL) == [
        (live_hash(SENTINEL),)
    ]


def test_the_sentinel_is_found_or_made_even_when_its_hash_is_another_rows(finished_run: Operator) -> None:
    url = finished_run.url
    query(
        url, "update ip_addresses set ip_address = '::ffff:192.0.2.69' where host(ip_address) = %s", SENTINEL
    )
    keys = list(finished_run.waiting("user_events"))
    before = raws(finished_run, keys)
    finished_run.types("quarantine", "settle", "user_events", "--as", "sentinel", "--count", len(keys))
    assert raws(finished_run, keys) == before
    assert {linked(url, key)[0] for key in keys} == {SENTINEL}


def test_settling_nothing_is_no_decision(settled_run: Operator) -> None:
    before = query(settled_run.url, "select count(*) from backfill.decisions")
    settled_run.types("quarantine", "settle", "user_events", "--as", "discard", "--count", 0)
    assert query(settled_run.url, "select count(*) from backfill.decisions") == before


# Duplicates of addresses


TWINS = """select plain.id::text, mapped.id::text, host(plain.ip_address)
             from ip_addresses plain join ip_addresses mapped
               on host(mapped.ip_address) = '::ffff:' || host(plain.ip_address)"""


def test_merging_gives_events_and_the_stricter_ban_to_one_row(finished_run: Operator) -> None:
    url = finished_run.url
    ((plain, mapped, address),) = query(url, TWINS)
    assert finished_run.waiting("ip_addresses") == {mapped: "duplicate-address"}
    ban = query(url, "select is_banned, ban_reason, ban_date from ip_addresses where id = %s", mapped)
    events = "select count(*) filter (where ip_address_id = %s), count(*) filter (where ip_address_id = %s) from user_events"
    ((of_plain, of_mapped),) = query(url, events, plain, mapped)
    assert of_mapped
    finished_run.types("addresses", "merge", "--count", 1)
    assert query(url, events, plain, mapped) == [(of_plain + of_mapped, 0)]
    state = "select is_banned, ban_reason, ban_date, hashed_ip_address from ip_addresses where id = %s"
    assert query(url, state, plain) == [(*ban[0], live_hash(address))]
    assert query(url, state, mapped)[0][3] == live_hash(f"::ffff:{address}")
    assert finished_run.waiting("ip_addresses") == {}
    assert query(url, "select kind, job, count from backfill.decisions") == [
        ("merge", identity("ip_addresses"), 1)
    ]


def test_merging_repoints_tables_that_no_plan_names(finished_run: Operator) -> None:
    url = finished_run.url
    ((plain, mapped, _),) = query(url, TWINS)
    query(
        url,
        """create schema other;
           create table other."Logins" (id serial primary key, "Address" uuid references ip_addresses);
           insert into other."Logins" ("Address") values (%s), (%s), (null)""",
        plain, mapped,
    )  # fmt: skip
    finished_run.types("addresses", "merge", "--count", 1)
    assert query(url, 'select "Address"::text from other."Logins" order by id') == [
        (plain,),
        (plain,),
        (None,),
    ]


def test_the_hash_moves_to_the_canonical_row(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    mapped = add_address(url, "::ffff:203.0.113.5", live_hash("203.0.113.5"))
    event = insert(url, "203.0.113.5")
    fresh_demo.types("run", "--quiet")
    assert linked(url, event)[0] == "203.0.113.5"
    assert fresh_demo.waiting("ip_addresses")[mapped] == "duplicate-address"
    fresh_demo.types("addresses", "merge", "--count", len(fresh_demo.waiting("ip_addresses")))
    hashes = dict(query(url, "select host(ip_address), hashed_ip_address from ip_addresses where host(ip_address) like %s", "%203.0.113.5"))  # fmt: skip
    assert hashes == {
        "203.0.113.5": live_hash("203.0.113.5"),
        "::ffff:203.0.113.5": live_hash("::ffff:203.0.113.5"),
    }


def test_an_odd_row_without_a_canonical_one_carries_the_hash(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    alone = add_address(url, "::ffff:203.0.113.7")
    fresh_demo.types("run", "--quiet")
    assert alone not in fresh_demo.waiting("ip_addresses")
    digest = "select hashed_ip_address from ip_addresses where id = %s"
    assert query(url, digest, alone) == [(live_hash("203.0.113.7"),)]


def test_odd_rows_that_need_nothing_are_not_written(finished_run: Operator) -> None:
    alone = add_address(finished_run.url, "::ffff:198.51.100.8", live_hash("198.51.100.8"))
    xmin = "select xmin::text from ip_addresses where id = %s"
    before = query(finished_run.url, xmin, alone)
    finished_run.types("run", "--quiet")
    assert query(finished_run.url, xmin, alone) == before


def test_a_row_whose_hash_another_one_holds_is_not_written_again(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    add_address(url, "::ffff:203.0.113.5", live_hash("203.0.113.5"))
    canonical = add_address(url, "203.0.113.5")
    insert(url, "203.0.113.5", [1])
    xmin = "select xmin::text from ip_addresses where id = %s"
    before = query(url, xmin, canonical)
    fresh_demo.types("run", "--quiet")
    assert query(url, xmin, canonical) == before


@pytest.mark.parametrize("count", [0, 2])
def test_a_wrong_count_merges_nothing(finished_run: Operator, count: int) -> None:
    before = query(finished_run.url, "select md5(string_agg(a::text, '|' order by id)) from ip_addresses a")
    said = finished_run.types("addresses", "merge", "--count", count, expect=2)
    assert f"the count given is {count}, the count found is 1" in said.err
    assert (
        query(finished_run.url, "select md5(string_agg(a::text, '|' order by id)) from ip_addresses a")
        == before
    )


def test_what_was_merged_stays_merged_at_the_next_run(settled_run: Operator) -> None:
    settled_run.types("run", "--quiet")
    assert settled_run.waiting("ip_addresses") == {}
    settled_run.types("verify")


def test_a_row_of_a_table_that_nobody_knows_is_not_settled(finished_run: Operator) -> None:
    said = finished_run.types(
        "quarantine", "settle", f"t{uuid.uuid4().hex}", "--as", "discard", "--count", 1, expect=2
    )
    assert "No job is called" in said.err
