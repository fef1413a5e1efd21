"""``backfill verify`` finds each injected damage, counts it right, and leads to the fix."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.databases import query
from tests.demo_template import SENTINEL, TABLES, live_hash
from tests.integration.test_link import insert
from tests.operator import Operator

LINKED_RAW = "ip_address_string is not null and ip_address_id is not null"
PLAIN = rf"{LINKED_RAW} and ip_address_string ~ '^\d+\.\d+\.\d+\.\d+$' and ip_address_string !~ '(^|\.)0\d'"


def tables(operator: Operator, *, expect: int) -> dict[str, dict[str, Any]]:
    said = operator.types("verify", "--format", "json", expect=expect)
    content = json.loads(said.out)
    assert content["covered"] is (expect == 0)
    return {table["table"]: table for table in content["tables"]}


def test_a_settled_database_is_covered_and_the_counts_add_up(settled_run: Operator) -> None:
    found = tables(settled_run, expect=0)
    assert list(found) == [*TABLES, "ip_addresses", "journals"]
    for name in TABLES:
        counts = found[name]["counts"]
        assert query(settled_run.url, f"select count(*), count(ip_address_string) from {name}") == [
            (counts["rows"], counts["raw"])
        ]
        states = (
            "right",
            "settled",
            "own_link_kept",
            "linked_to_sentinel",
            "wrong",
            "unlinked",
            "quarantined",
        )
        assert counts["raw"] == sum(counts[state] for state in states)
        assert counts["rows"] == counts["raw"] + counts["no_address"]
        assert counts["right"] > counts["settled"]
        assert found[name]["reasons"] == []
    assert found["user_events"]["counts"]["settled"] > 0
    addresses = found["ip_addresses"]["counts"]
    assert addresses["rows"] == addresses["hash_right"]
    assert addresses["merged"] == 1


def test_verifying_changes_nothing_but_the_record(settled_run: Operator) -> None:
    url = settled_run.url
    place = " union all ".join(f"select '{name}', id::text, ctid::text, xmin::text from {name}" for name in (*TABLES, "ip_addresses"))  # fmt: skip
    before = query(url, f"{place} order by 1, 2")
    settled_run.types("verify")
    assert query(url, f"{place} order by 1, 2") == before
    assert query(url, "select count(*), bool_and(covered), bool_and(method = 'full') from backfill.coverage") == [(7, True, True)]  # fmt: skip


def test_before_any_run_everything_that_is_missing_is_counted(fresh_demo: Operator) -> None:
    found = tables(fresh_demo, expect=1)
    counts = found["user_events"]["counts"]
    assert counts["unlinked"] > 100
    assert query(
        fresh_demo.url,
        "select count(*) from user_events where ip_address_string is not null and ip_address_id is null",
    ) == [(counts["unlinked"] + counts["quarantined"],)]
    assert any("`backfill run`" in reason for reason in found["user_events"]["reasons"])


def some(url: str, number: int, where: str = PLAIN) -> list[str]:
    return [
        key
        for (key,) in query(url, f"select id::text from user_events where {where} order by id limit {number}")
    ]


def unlink(url: str) -> None:
    query(url, "update user_events set ip_address_id = null where id = any(%s::uuid[])", some(url, 3))


def link_wrongly(url: str) -> None:
    wrong = query(url, "insert into ip_addresses (ip_address, hashed_ip_address) values ('203.0.113.1', %s) returning id", live_hash("203.0.113.1"))  # fmt: skip
    query(
        url, "update user_events set ip_address_id = %s where id = any(%s::uuid[])", wrong[0][0], some(url, 4)
    )


def file_under_sentinel(url: str) -> None:
    query(
        url,
        "update user_events set ip_address_id = (select id from ip_addresses where host(ip_address) = %s) where id = any(%s::uuid[])",
        SENTINEL, some(url, 2),
    )  # fmt: skip


def take_geo(url: str) -> None:
    keys = some(url, 5, f"{PLAIN} and additional ? 'geoip_info'")
    query(
        url, "update user_events set additional = additional - 'geoip_info' where id = any(%s::uuid[])", keys
    )
    query(url, "update user_events set additional = null where id = %s", keys[0])
    query(url, "update user_events set additional = 'null' where id = %s", keys[1])


def add_nonsense(url: str) -> None:
    for text in ("unknown", "8.8.8.8, 9.9.9.9", "x" * 70):
        insert(url, text)


DAMAGES: dict[str, tuple[Callable[[str], None], str, int, str]] = {
    "unlinked": (unlink, "unlinked", 3, "3 rows have an address and no link: `backfill run`"),
    "wrong": (link_wrongly, "wrong", 4, "4 rows are linked to another address"),
    "linked_to_sentinel": (file_under_sentinel, "linked_to_sentinel", 2, "2 rows with an address are linked to the sentinel"),
    "geo": (take_geo, "geo_missing", 5, "5 rows lack the geo that their address has: `backfill run`"),
    "quarantined": (
        add_nonsense, "quarantined", 3,
        "3 rows hold a text that is no address: `backfill run`, which lists them, then `backfill quarantine list`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_events_is_found_and_counted(proved_run: Operator, damage: str) -> None:
    do, count, number, reason = DAMAGES[damage]
    do(proved_run.url)
    found = tables(proved_run, expect=1)
    assert found["user_events"]["counts"][count] == number
    assert any(reason in said for said in found["user_events"]["reasons"])
    assert all(found[name]["covered"] for name in TABLES if name != "user_events")
    assert "proof of user_events" in proved_run.is_refused()


@pytest.mark.parametrize("damage", ["wrong", "linked_to_sentinel"])
def test_wrong_links_are_named_by_their_row_keys(proved_run: Operator, damage: str) -> None:
    keys = some(proved_run.url, DAMAGES[damage][2])
    DAMAGES[damage][0](proved_run.url)
    assert sorted(tables(proved_run, expect=1)["user_events"]["wrong_keys"]) == keys


@pytest.mark.parametrize("damage", ["unlinked", "geo"])
def test_what_a_run_can_mend_is_mended_by_a_run(proved_run: Operator, damage: str) -> None:
    DAMAGES[damage][0](proved_run.url)
    proved_run.types("verify", expect=1)
    proved_run.types("run", "--quiet")
    proved_run.types("verify")


@pytest.mark.parametrize(
    ("digest", "count", "reason"),
    [
        ("null", "hash_missing", "row has no hash: `backfill run`"),
        ("repeat('a', 64)", "hash_wrong", "hash is not what salt and scheme make of the address"),
        ("upper(hashed_ip_address)", "hash_wrong", "hash is not what salt"),
        ("hashed_ip_address || ' '", "hash_wrong", "hash is not what salt"),
        ("encode(sha256(host(ip_address)::bytea), 'hex')", "hash_wrong", "hash is not what salt"),
    ],
)
def test_damage_to_hashes_is_found_and_counted(
    proved_run: Operator, digest: str, count: str, reason: str
) -> None:
    url = proved_run.url
    ((key, events),) = query(
        url,
        """select ip.id::text, count(*) from ip_addresses ip join user_events e on e.ip_address_id = ip.id
            where e.ip_address_string is not null and hashed_ip_address ~ '[a-f]' and host(ip_address) <> %s
              and masklen(ip_address) = 32 group by 1 order by 1 limit 1""",
        SENTINEL,
    )  # fmt: skip
    query(url, f"update ip_addresses set hashed_ip_address = {digest} where id = %s", key)
    found = tables(proved_run, expect=1)
    assert found["ip_addresses"]["counts"][count] == 1
    assert any(reason in said for said in found["ip_addresses"]["reasons"])
    assert found["user_events"]["counts"][count] == events
    if count == "hash_wrong":
        assert found["ip_addresses"]["wrong_keys"] == [key]


def test_another_salt_is_refused_before_it_counts(proved_run: Operator) -> None:
    said = proved_run.having(ip_salt="another salt, long enough too").types("verify", expect=2)
    assert "The salt is not the one that key id default stood for" in said.err


def test_a_duplicate_address_is_found(proved_run: Operator) -> None:
    query(
        proved_run.url,
        """insert into ip_addresses (ip_address) select ('::ffff:' || host(ip_address))::inet from ip_addresses known
            where family(ip_address) = 4 and host(ip_address) <> %s and not exists (
                  select from ip_addresses where host(ip_address) = '::ffff:' || host(known.ip_address))
            order by id limit 1""",
        SENTINEL,
    )
    found = tables(proved_run, expect=1)["ip_addresses"]
    assert found["counts"]["duplicates"] == 1
    assert any("`backfill run`, which lists them" in reason for reason in found["reasons"])


def test_geo_of_the_address_table_gates_nothing(proved_run: Operator) -> None:
    query(proved_run.url, "update ip_addresses set geoip_info = null")
    tables(proved_run, expect=0)


def test_verify_does_not_ask_the_writer(proved_run: Operator) -> None:
    """The map, were it there and wrong, would not be believed; nor would the quarantine's absence."""
    url = proved_run.url
    insert(url, "localhost")
    query(url, "create unlogged table backfill.address_map (raw text primary key, address_id uuid, geo jsonb, reason text)")  # fmt: skip
    query(url, "delete from backfill.quarantine")
    assert tables(proved_run, expect=1)["user_events"]["counts"]["quarantined"] == 1


def test_after_the_drops_the_last_proof_is_reported_and_links_are_checked_again(proved_run: Operator) -> None:
    url = proved_run.url
    proved_run.migrates()
    found = tables(proved_run, expect=0)
    assert all(found[name]["proved"] for name in TABLES)
    said = proved_run.types("verify").out
    assert "proved on" in said
    assert not [claim for claim in ("not kept", "hash right", "every hash is right") if claim in said]
    assert "as proved before the raw column went" in said
    assert "no address is left to recompute it from" in said
    assert found["ip_addresses"]["counts"]["hash_of_right_form"] == found["ip_addresses"]["counts"]["rows"]
    query(url, "update ip_addresses set hashed_ip_address = 'broken' where id = (select ip_address_id from user_events where ip_address_id is not null limit 1)")  # fmt: skip
    found = tables(proved_run, expect=1)
    assert found["user_events"]["counts"]["hash_wrong"] >= 1
    assert found["ip_addresses"]["counts"]["hash_wrong"] == 1


def test_neither_text_nor_report_shows_an_address(proved_run: Operator) -> None:
    link_wrongly(proved_run.url)
    said = [proved_run.types("verify", expect=1)]
    said += [proved_run.types("report", "--format", form) for form in ("text", "json", "markdown")]
    texts = {raw for (raw,) in query(proved_run.url, "select distinct ip_address_string from user_events where length(ip_address_string) > 6")}  # fmt: skip
    for one in said:
        assert not [text for text in texts - {"unknown", "localhost"} if text in one.out + one.err]
