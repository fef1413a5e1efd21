"""Damage: each kind is found and counted by verify, keeps the gate shut, says what fixes it, and is fixed so.

The damage is done to a proved database, by hand, as live traffic or a hasty operator would.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.databases import query
from tests.demo_template import SENTINEL, live_hash
from tests.names import guard, identity
from tests.operator import Operator

RAW = "ip_address_string"
PLAIN = f"""(select e.id from user_events e join ip_addresses i on i.id = e.ip_address_id
              where host(i.ip_address) = e.{RAW} and i.ip_address <> '{SENTINEL}'
                and e.additional ? 'geoip_info' order by e.id limit %s)"""


def verified(operator: Operator, table: str = "user_events", expect: int = 1) -> dict[str, Any]:
    """What ``backfill verify`` says of one table."""
    said = json.loads(operator.types("verify", "--format", "json", expect=expect).out)
    return next(found for found in said["tables"] if found["table"] == table)


def some(operator: Operator, number: int) -> list[str]:
    """Keys of rows that are plainly right, with geo."""
    return [str(key) for (key,) in query(operator.url, PLAIN.replace("%s", str(number)))]


def other_address(operator: Operator, keys: list[str]) -> str:
    """An address row that none of those events is linked to."""
    return query(
        operator.url,
        f"""select id::text from ip_addresses where ip_address <> '{SENTINEL}' and hashed_ip_address is not null
             and masklen(ip_address) = 32 and id not in
                 (select ip_address_id from user_events where id::text = any(%s)) order by id limit 1""",
        keys,
    )[0][0]


def unlink(operator: Operator, keys: list[str]) -> None:
    query(operator.url, "update user_events set ip_address_id = null where id::text = any(%s)", keys)


def link_elsewhere(operator: Operator, keys: list[str]) -> None:
    query(
        operator.url,
        "update user_events set ip_address_id = %s::uuid where id::text = any(%s)",
        other_address(operator, keys),
        keys,
    )


def link_to_the_sentinel(operator: Operator, keys: list[str]) -> None:
    query(
        operator.url,
        f"update user_events set ip_address_id = (select id from ip_addresses where ip_address = '{SENTINEL}') where id::text = any(%s)",
        keys,
    )


def take_the_geo_away(operator: Operator, keys: list[str]) -> None:
    query(
        operator.url,
        "update user_events set additional = additional - 'geoip_info' where id::text = any(%s)",
        keys,
    )


@pytest.mark.parametrize(
    ("damage", "counted", "fix"),
    [
        (unlink, "unlinked", ["run", "--quiet"]),
        (link_elsewhere, "wrong", ["repair", "user_events", "--kind", "link", "--count", 3]),
        (
            link_to_the_sentinel,
            "linked_to_sentinel",
            ["repair", "user_events", "--kind", "sentinel", "--count", 3],
        ),
        (take_the_geo_away, "geo_missing", ["run", "--quiet"]),
    ],
)
def test_a_damaged_row_is_counted_keeps_the_gate_shut_and_is_mended(
    proved_run: Operator, damage: Callable[[Operator, list[str]], None], counted: str, fix: list[Any]
) -> None:
    keys = some(proved_run, 3)
    before = query(proved_run.url, "select id, ip_address_id from user_events order by id")
    damage(proved_run, keys)
    found = verified(proved_run)
    assert found["counts"][counted] == 3
    assert found["covered"] is False
    if counted in ("wrong", "linked_to_sentinel"):
        assert set(found["wrong_keys"]) == set(keys)
    command = f"`backfill {' '.join(map(str, fix))}`".replace(" --quiet", "")
    assert any(command in reason for reason in found["reasons"]), found["reasons"]
    refusal = proved_run.is_refused("0003a_user_events")
    assert "guard user_events" in refusal
    assert command in refusal
    proved_run.types(*fix)
    assert query(proved_run.url, "select id, ip_address_id from user_events order by id") == before
    assert verified(proved_run, expect=0)["counts"][counted] == 0
    proved_run.migrates("0004_user_events")


@pytest.mark.parametrize(
    "change",
    [
        "another salt",
        "upper case",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("wrong", "too long")),
    ],
)
def test_a_wrong_hash_is_counted_keeps_the_gate_shut_and_is_mended(proved_run: Operator, change: str) -> None:
    url = proved_run.url
    ((key, host),) = query(
        url,
        f"""select id::text, host(ip_address) from ip_addresses i where masklen(ip_address) = 32
              and ip_address <> '{SENTINEL}' and exists (select from user_events where ip_address_id = i.id
              and {RAW} is not null) order by id limit 1""",
    )
    right = live_hash(host)
    wrong = {
        "wrong": "0" * 64,
        "another salt": live_hash(host + "x"),
        "upper case": right.upper(),
        "too long": right + "0",
    }[change]
    query(url, "update ip_addresses set hashed_ip_address = %s where id::text = %s", wrong, key)
    linked = query(url, f"select count({RAW}) from user_events where ip_address_id::text = %s", key)[0][0]
    found = verified(proved_run, "ip_addresses")
    assert (found["counts"]["hash_wrong"], found["wrong_keys"]) == (1, [key])
    assert verified(proved_run)["counts"]["hash_wrong"] == linked > 0
    assert "backfill repair ip_addresses --kind hash --count 1" in found["reasons"][0]
    assert "guard user_events" in proved_run.is_refused("0003a_user_events")
    proved_run.types("repair", "ip_addresses", "--kind", "hash", "--count", 2, expect=2)
    proved_run.types("repair", "ip_addresses", "--kind", "hash", "--count", 1)
    assert query(url, "select hashed_ip_address from ip_addresses where id::text = %s", key) == [(right,)]
    verified(proved_run, expect=0)
    proved_run.migrates("0004_user_events")


def test_two_rows_with_each_others_hash_are_both_mended(proved_run: Operator) -> None:
    url = proved_run.url
    two = query(
        url,
        "select id::text, hashed_ip_address from ip_addresses where masklen(ip_address) = 32 order by id limit 2",
    )
    (one, first), (other, second) = two
    for key, hashed in ((one, None), (other, first), (one, second)):
        query(url, "update ip_addresses set hashed_ip_address = %s where id::text = %s", hashed, key)
    proved_run.types("repair", "ip_addresses", "--kind", "hash", "--count", 2)
    assert dict(query(url, "select id::text, hashed_ip_address from ip_addresses where id::text = any(%s)", [one, other])) == dict(two)  # fmt: skip


def test_hashes_of_another_salt_altogether_are_not_repaired_away(proved_run: Operator) -> None:
    """Then it is our salt that is wrong, and the live hashes are the truth."""
    url = proved_run.url
    query(
        url,
        "update ip_addresses set hashed_ip_address = encode(sha256(convert_to(id::text, 'UTF8')), 'hex')",
    )
    number = query(url, "select count(*) from ip_addresses")[0][0]
    assert verified(proved_run, "ip_addresses")["counts"]["hash_wrong"] >= number - 1
    refused = proved_run.types("repair", "ip_addresses", "--kind", "hash", "--count", number, expect=2)
    assert "another salt or scheme" in refused.err
    assert "`backfill repair ip_addresses --kind hash`, which tells" in proved_run.types("verify", expect=1).out.replace("\n", " ")  # fmt: skip


def test_the_wrong_count_repairs_nothing(proved_run: Operator) -> None:
    link_elsewhere(proved_run, some(proved_run, 3))
    before = query(proved_run.url, "select id, ip_address_id from user_events order by id")
    said = proved_run.types("repair", "user_events", "--kind", "link", "--count", 2, expect=2)
    assert "the count given is 2, the count found is 3" in said.err
    assert query(proved_run.url, "select id, ip_address_id from user_events order by id") == before
    assert query(proved_run.url, "select count(*) from backfill.decisions where kind = 'repair'") == [(0,)]


def test_a_repair_is_on_record_and_may_make_the_address_row_it_needs(proved_run: Operator) -> None:
    ((key,),) = [[one] for one in some(proved_run, 1)]
    query(proved_run.url, f"update user_events set {RAW} = '198.51.100.77' where id::text = %s", key)
    proved_run.types("repair", "user_events", "--kind", "link", "--count", 1)
    linked = "select host(ip_address), hashed_ip_address from ip_addresses where id = (select ip_address_id from user_events where id::text = %s)"
    assert query(proved_run.url, linked, key) == [("198.51.100.77", live_hash("198.51.100.77"))]
    decisions = query(proved_run.url, "select kind, job, count, detail from backfill.decisions order by id desc limit 1")  # fmt: skip
    assert decisions == [("repair", identity("user_events"), 1, {"what": "link"})]
    verified(proved_run, expect=0)


def test_a_link_is_mended_under_the_guard_as_well(proved_run: Operator) -> None:
    keys = some(proved_run, 2)
    proved_run.migrates("0003b_team_events")
    query(proved_run.url, f"alter table user_events disable trigger {guard('user_events')}")
    link_elsewhere(proved_run, keys)
    query(proved_run.url, f"alter table user_events enable always trigger {guard('user_events')}")
    assert "links of user_events" in proved_run.is_refused()
    proved_run.types("repair", "user_events", "--kind", "link", "--count", 2)
    verified(proved_run, expect=0)
    proved_run.migrates()


def test_a_live_writer_is_counted_and_keeps_the_gate_shut(proved_run: Operator) -> None:
    """It links what it writes, as the application does: covered, and yet no column may go under it."""
    url = proved_run.url
    query(
        url,
        f"""insert into user_events (source_id, tag, {RAW}, ip_address_id, additional, time)
            select source_id, 'live', {RAW}, ip_address_id, additional, now() + '1 hour' from user_events
             where id::text = any(%s)""",
        some(proved_run, 2),
    )
    assert "writes to user_events.ip_address_string: it changed" in proved_run.is_refused("0003a_user_events")
    found = verified(proved_run, expect=0)
    assert found["since_run"] == 2
    (note,) = found["notes"]
    assert "2 raw values were written after the last run ended" in note
    assert "`backfill seal user_events`" in note
    patient = proved_run.having(observe="864000")
    assert "it has to stay unchanged for 864000 s" in patient.is_refused("0003a_user_events")
    proved_run.types("seal", "user_events")
    query(url, f"insert into user_events (source_id, tag, {RAW}) select source_id, 'sealed', '198.51.100.9' from user_events limit 1")  # fmt: skip
    assert query(url, f"select {RAW} from user_events where tag = 'sealed'") == [(None,)]
    proved_run.types("verify")
    proved_run.migrates("0004_user_events")
    query(url, "insert into user_events (source_id, tag) select source_id, 'after' from user_events limit 1")


def test_the_sentinel_linked_by_the_application_counts_as_settled_only_for_what_is_no_address(
    proved_run: Operator,
) -> None:
    counts = verified(proved_run, expect=0)["counts"]
    ((settled,),) = query(
        proved_run.url,
        f"""select count(*) from user_events e join ip_addresses i on i.id = e.ip_address_id
             where i.ip_address = '{SENTINEL}' and e.{RAW} is not null""",
    )
    assert counts["settled"] == settled > 0
    assert counts["rows"] == counts["no_address"] + sum(
        counts[state]
        for state in (
            "right",
            "settled",
            "own_link_kept",
            "wrong",
            "linked_to_sentinel",
            "unlinked",
            "quarantined",
        )
    )
