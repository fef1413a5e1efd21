"""Rows in states that the application, an operator or the chain itself may bring about: each has a way out."""

import json
from pathlib import Path

import pytest

from backfill.ledger.phases import Phase, Work
from tests.databases import query
from tests.demo_template import live_hash
from tests.integration.test_link import LOCATED, add_address, insert, linked
from tests.operator import Operator

NETWORKS = ["203.0.113.0/24", "203.0.113.9/24", "2001:db8::/32", "::ffff:203.0.113.0/120"]


@pytest.fixture
def no_foreign_key(fresh_demo: Operator) -> Operator:
    query(
        fresh_demo.url,
        """do $$ declare one record; begin
             for one in select conrelid::regclass as of, conname from pg_constraint
                         where contype = 'f' and confrelid = 'ip_addresses'::regclass loop
               execute format('alter table %s drop constraint %I', one.of, one.conname); end loop; end $$""",
    )
    return fresh_demo


@pytest.mark.parametrize(
    "network",
    [pytest.param(one, marks=() if one == "203.0.113.9/24" else pytest.mark.slow) for one in NETWORKS],
)
def test_a_network_is_neither_hashed_as_its_first_host_nor_linked_to(
    fresh_demo: Operator, network: str
) -> None:
    url = fresh_demo.url
    host = query(url, "select host(%s::inet)", network)[0][0]
    banned = add_address(url, network)
    event = insert(url, host.removeprefix("::ffff:"))
    fresh_demo.types("calibrate")
    fresh_demo.types("run", "--quiet")
    assert fresh_demo.waiting("ip_addresses")[banned] == "network"
    assert query(url, "select hashed_ip_address from ip_addresses where id = %s", banned) == [(None,)]
    assert query(url, "select ip_address_id::text from user_events where id = %s", event) != [(banned,)]
    assert "1 row is a network, not an address: `backfill addresses keep --count 1`" in said(fresh_demo)
    fresh_demo.types("addresses", "keep", "--count", 2, expect=2)
    fresh_demo.types("addresses", "keep", "--count", 1)
    spelled = query(url, "select abbrev(%s::inet)", network)[0][0]
    assert query(url, "select hashed_ip_address from ip_addresses where id = %s", banned) == [
        (live_hash(spelled),)
    ]
    fresh_demo.types("run", "--quiet")
    assert banned not in fresh_demo.waiting("ip_addresses")
    fresh_demo.settles_everything()
    fresh_demo.types("verify")
    # A link to the network is not one to the address that its text spells.
    query(url, "update user_events set ip_address_id = %s where id = %s", banned, event)
    assert "1 row is linked to another address" in said(fresh_demo)


def said(operator: Operator) -> str:
    return operator.types("verify", expect=1).out


def test_a_hash_of_a_network_says_nothing_about_the_formula(fresh_demo: Operator) -> None:
    query(
        fresh_demo.url,
        "insert into ip_addresses (ip_address, hashed_ip_address) values ('203.0.113.0/24', 'odd')",
    )
    fresh_demo.types("calibrate")


def test_rows_without_an_address_are_no_ones_trouble(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    query(url, "alter table ip_addresses alter ip_address drop not null")
    query(url, "insert into ip_addresses (hashed_ip_address) values (%s)", live_hash("203.0.113.200"))
    fresh_demo.types("calibrate")
    fresh_demo.types("run", "--quiet")
    fresh_demo.settles_everything()
    fresh_demo.types("verify")
    assert "hash_missing" in json.dumps(json.loads(fresh_demo.types("verify", "--format", "json").out))


def gone(url: str, event: str) -> None:
    """The address row of that event is deleted; with a foreign key its events would go as well."""
    query(
        url,
        "delete from ip_addresses where id = (select ip_address_id from user_events where id = %s)",
        event,
    )


def test_links_to_rows_that_are_gone_are_counted_and_repaired(no_foreign_key: Operator) -> None:
    operator, url = no_foreign_key, no_foreign_key.url
    event = insert(url, "203.0.113.77")
    bad = insert(url, "no address at all")
    known = add_address(url, "203.0.113.78")
    query(url, "update user_events set ip_address_id = %s where id = %s", known, bad)
    operator.types("run", "--quiet", "--accept", "x:y")
    operator.settles_everything()
    gone(url, event)
    gone(url, bad)
    out = said(operator)
    assert "2 rows are linked to a row of the address table that is gone" in out
    assert "`backfill repair user_events --kind dangling --count 2`" in out
    operator.types("repair", "user_events", "--kind", "dangling", "--count", 2)
    assert linked(url, event)[0] == "203.0.113.77"
    assert linked(url, bad)[0] is None
    assert "`backfill run`, which lists them, then `backfill quarantine list`" in said(operator)
    operator.types("run", "--quiet", "--accept", "x:y")
    operator.types("quarantine", "settle", "user_events", "--as", "sentinel", "--count", 1)
    operator.types("verify")


def test_address_rows_deleted_between_two_phases_are_made_anew(fresh_demo: Operator) -> None:
    """23503 at every resume."""
    url = fresh_demo.url
    event = insert(url, "203.0.113.79")

    def deleting(phase: Phase) -> None:
        if phase.work is Work.LINK:
            query(url, "delete from ip_addresses where ip_address = '203.0.113.79'")

    fresh_demo.hooked(before_phase=deleting).types("run", "--quiet")
    fresh_demo.types("run", "--quiet")
    assert linked(url, event)[0] == "203.0.113.79"
    fresh_demo.settles_everything()
    fresh_demo.types("verify")


def test_merging_comes_before_a_run_where_a_duplicate_holds_the_hash(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    add_address(url, "::ffff:203.0.113.5", live_hash("203.0.113.5"))
    add_address(url, "203.0.113.5")
    insert(url, "203.0.113.5")
    fresh_demo.types("run", "--quiet")
    out = said(fresh_demo)
    assert "first merge the 2 duplicates, then `backfill run`" in out
    assert "linked to an address without a hash: what ip_addresses says: merge, then `backfill run`" in out
    fresh_demo.settles_everything()
    fresh_demo.types("run", "--quiet")
    fresh_demo.types("verify")


def test_a_text_that_came_after_the_run_is_listed_by_the_next(settled_run: Operator) -> None:
    insert(settled_run.url, "not an address, and late")
    assert "`backfill run`, which lists them, then `backfill quarantine list`" in said(settled_run)
    settled_run.types("run", "--quiet")
    assert "`backfill quarantine settle user_events --as sentinel --count 1` (or `--as discard`)" in said(
        settled_run
    )


ADDRESSES_ONLY = """
name = "today"
[addresses]
table = "ip_addresses"
"""


def test_a_plan_without_jobs_fills_the_address_table(fresh_demo: Operator, tmp_path: Path) -> None:
    """As where only the address table is still raw."""
    plan = tmp_path / "plan.toml"
    plan.write_text(ADDRESSES_ONLY)
    operator = fresh_demo.having(plan=str(plan))
    key = add_address(operator.url, LOCATED)
    operator.types("plan")
    operator.types("calibrate")
    operator.types("run", "--quiet")
    assert query(operator.url, "select hashed_ip_address from ip_addresses where id = %s", key) == [
        (live_hash(LOCATED),)
    ]
    operator.types("status")
    operator.types("addresses", "merge", "--count", len(operator.waiting("ip_addresses")))
    operator.types("verify")
    operator.types("report")
    operator.types("gates", expect=None)
    operator.types("quarantine", "list")


SKIPS = "return null"
UNDOES = "new.ip_address_id := null; return new"


@pytest.mark.parametrize("does", [SKIPS, pytest.param(UNDOES, marks=pytest.mark.slow)])
def test_what_a_trigger_keeps_is_said_and_not_left_to_the_application(
    fresh_demo: Operator, does: str
) -> None:
    url = fresh_demo.url
    keys = [insert(url, f"203.0.113.{number}") for number in range(60, 63)]
    query(
        url,
        f"""create function stays() returns trigger language plpgsql as $$ begin
              if new.ip_address_string like '203.0.113.6%' then {does}; end if; return new; end $$;
            create trigger stays before update on user_events for each row execute function stays()""",
    )
    said = fresh_demo.types("run", "--quiet", "--accept", "before-trigger:public.user_events.stays").out
    assert "user_events: 3 rows stay without a link although they were updated" in said
    assert "+ kept" in said
    assert query(
        url,
        """select left_to_live, kept, rows - linked - already_linked - no_address - quarantined
             from backfill.run_tables where job = 'public.user_events.ip_address_string'""",
    ) == [(0, 3, 3)]
    query(url, "alter table user_events disable trigger stays")
    fresh_demo.types("run", "--quiet")
    assert all(linked(url, key)[0] for key in keys)
