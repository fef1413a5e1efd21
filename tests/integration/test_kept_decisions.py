"""A trigger keeps rows from changing: what was decided about them is not entered, and the trigger is named."""

import time

import pytest

from tests.databases import query
from tests.integration.test_damage import link_elsewhere, some
from tests.integration.test_quarantine import TWINS
from tests.operator import Operator

SKIPS = ("before", "return null;")
UNDOES = (
    "before",
    "new.ip_address_id := old.ip_address_id; new.ip_address_string := old.ip_address_string; return new;",
)
PUTS_BACK = (
    "after",
    """if pg_trigger_depth() = 1 then
         update public.user_events set ip_address_id = old.ip_address_id, ip_address_string = old.ip_address_string
          where id = new.id; end if; return null;""",
)
DELETES = ("after", "delete from public.user_events where id = new.id; return null;")
PUTS_BACK_APART = ("after", f"begin {PUTS_BACK[1].removesuffix('return null;')} exception when division_by_zero then null; end; return null;")  # fmt: skip
MOVES = (
    "before",
    """if pg_trigger_depth() > 1 then return new; end if;
       update public.user_events set tag = tag where id = new.id; return null;""",
)
WAYS = [SKIPS, pytest.param(*UNDOES, marks=pytest.mark.slow), PUTS_BACK]


def keeps(operator: Operator, when: str, body: str, key: str) -> None:
    """One row among many is kept, by a trigger that was accepted."""
    query(
        operator.url,
        f"""create function public.keeps() returns trigger language plpgsql as $$ begin {body} end $$;
            create trigger keeps {when} update on user_events for each row when (old.id = '{key}')
              execute function public.keeps();
            create trigger elsewhere before update of tag on user_events for each row execute function public.keeps()""",
    )
    operator.types("run", "--quiet", "--accept", f"{when}-trigger:public.user_events.keeps")


def decided(url: str) -> list[tuple]:
    return query(url, "select kind, count from backfill.decisions where kind in ('settle', 'repair')")


@pytest.mark.parametrize("fate", ["sentinel", "discard"])
@pytest.mark.parametrize(("when", "body"), [*WAYS, pytest.param(*DELETES, marks=pytest.mark.slow)])
def test_settle_changes_and_decides_all_or_nothing(
    finished_run: Operator, fate: str, when: str, body: str
) -> None:
    url = finished_run.url
    keys = sorted(finished_run.waiting("user_events"))
    rows = "select id, ip_address_id, ip_address_string from user_events order by id"
    before = query(url, rows)
    keeps(finished_run, when, body, keys[0])
    words = ("quarantine", "settle", "user_events", "--as", fate, "--count", len(keys))
    said = finished_run.types(*words, expect=2).err
    assert f"1 of {len(keys)} rows did not keep what was written" in said
    assert f"(the first by key: {keys[0]})" in said
    assert "Triggers that fire there: keeps. " in said
    assert query(url, rows) == before
    assert decided(url) == []
    assert sorted(finished_run.waiting("user_events")) == keys
    query(url, "alter table user_events disable trigger keeps")
    finished_run.types(*words)
    assert decided(url) == [("settle", len(keys))]


@pytest.mark.parametrize(("when", "body"), WAYS)
def test_repair_of_links_likewise(proved_run: Operator, when: str, body: str) -> None:
    url = proved_run.url
    keys = some(proved_run, 3)
    link_elsewhere(proved_run, keys)
    before = decided(url)
    keeps(proved_run, when, body, keys[0])
    words = ("repair", "user_events", "--kind", "link", "--count")
    said = proved_run.types(*words, 3, expect=2).err
    assert "1 of 3 rows did not keep what was written to ip_address_id" in said
    assert "Triggers that fire there: keeps. " in said
    assert decided(url) == before
    query(url, "alter table user_events disable trigger keeps")
    proved_run.types(*words, 3)
    assert decided(url) == [*before, ("repair", 3)]


def fill_the_last_page(url: str) -> None:
    """The next update of a row there goes to a page that the table does not have yet."""
    blocks = "select pg_relation_size('user_events') / 8192"
    query(url, "alter table user_events set (autovacuum_enabled = off)")
    query(url, "vacuum full user_events")
    ((full,),) = query(url, blocks)
    while query(url, blocks) == [(full,)]:
        query(
            url,
            "insert into user_events (source_id, tag) select source_id, 'filler' from user_events limit 1",
        )
    query(url, "delete from user_events where ctid >= %s::tid", f"({full},0)")
    for _ in range(100):  # while another session may still see what was deleted
        query(url, "vacuum full user_events")
        if query(url, blocks) == [(full,)]:
            return
        time.sleep(0.1)
    pytest.fail(f"user_events does not go back to {full} blocks")


def test_repair_looks_for_a_row_where_its_update_has_put_it(proved_run: Operator) -> None:
    url = proved_run.url
    keys = some(proved_run, 3)
    link_elsewhere(proved_run, keys)
    keeps(proved_run, *PUTS_BACK, keys[0])
    fill_the_last_page(url)
    before = decided(url)
    said = proved_run.types("repair", "user_events", "--kind", "link", "--count", 3, expect=2).err
    assert "1 of 3 rows did not keep what was written to ip_address_id" in said
    assert decided(url) == before


def twins(operator: Operator) -> tuple[str, str]:
    """Keys of the canonical row and of its duplicate, which the demo has."""
    ((plain, mapped, _),) = query(operator.url, TWINS)
    return plain, mapped


def merges(operator: Operator, expect: int = 0) -> str:
    return operator.types("addresses", "merge", "--count", 1, expect=expect).err


@pytest.mark.parametrize(("when", "body"), [*WAYS, PUTS_BACK_APART, MOVES])
def test_merge_decides_nothing_where_an_event_keeps_its_link(
    finished_run: Operator, when: str, body: str
) -> None:
    url = finished_run.url
    _, mapped = twins(finished_run)
    (event,) = query(url, "select id::text from user_events where ip_address_id = %s limit 1", mapped)[0]
    keeps(finished_run, when, body, event)
    fill_the_last_page(url)
    said = merges(finished_run, expect=2)
    assert "user_events: 1 of" in said
    assert "did not keep what was written to ip_address_id" in said
    assert "keeps" in said
    assert finished_run.waiting("ip_addresses") == {mapped: "duplicate-address"}
    assert query(url, "select kind from backfill.decisions where kind = 'merge'") == []
    query(url, "alter table user_events disable trigger keeps")
    merges(finished_run)
    assert finished_run.waiting("ip_addresses") == {}
    assert query(url, "select count(*) from user_events where ip_address_id = %s", mapped) == [(0,)]


@pytest.mark.parametrize("rule", ["instead nothing", "also notify moved"])
def test_merge_names_a_rule_of_a_table_that_no_plan_names(finished_run: Operator, rule: str) -> None:
    url = finished_run.url
    plain, mapped = twins(finished_run)
    query(url, "create table public.logins (id int primary key, address uuid references ip_addresses)")
    query(url, "insert into public.logins values (1, %s)", mapped)
    query(url, f"create rule moves as on update to public.logins do {rule}")
    before = query(url, "select count(*) from user_events where ip_address_id = %s", mapped)
    said = merges(finished_run, expect=2)
    assert "Rule moves of logins rewrites what is written to it" in said
    assert 'alter table "public"."logins" disable rule' in said
    assert query(url, "select count(*) from user_events where ip_address_id = %s", mapped) == before
    query(url, "alter table public.logins disable rule moves")
    merges(finished_run)
    assert query(url, "select address::text from public.logins") == [(plain,)]


def test_merge_names_a_trigger_of_a_table_that_no_plan_names(finished_run: Operator) -> None:
    url = finished_run.url
    plain, mapped = twins(finished_run)
    query(url, "create table public.logins (id int primary key, address uuid references ip_addresses)")
    query(url, "insert into public.logins values (1, %s)", mapped)
    query(url, """create function public.keeps() returns trigger language plpgsql as $$ begin return null; end $$;
                  create trigger stays before update on public.logins for each row execute function public.keeps()""")  # fmt: skip
    said = merges(finished_run, expect=2)
    assert (
        "logins: 1 of 1 row did not keep what was written to address (the first by key: ctid (0,1))" in said
    )
    assert "Triggers that fire there: stays. " in said
    query(url, "alter table public.logins disable trigger stays")
    merges(finished_run)
    assert query(url, "select address::text from public.logins") == [(plain,)]


ADDRESS_WAYS = {
    "ban": "new.is_banned := old.is_banned; new.ban_reason := old.ban_reason; new.ban_date := old.ban_date; return new;",
    "hash": "new.hashed_ip_address := old.hashed_ip_address; return new;",
    "row": "return null;",
}


def keeps_addresses(operator: Operator, body: str, *words: object) -> None:
    query(
        operator.url,
        f"""create function public.keeps() returns trigger language plpgsql as $$ begin {body} end $$;
            create trigger keeps before update on ip_addresses for each row execute function public.keeps()""",
    )
    operator.types("run", "--quiet", "--accept", "before-trigger:public.ip_addresses.keeps", *words)


@pytest.mark.parametrize("what", ADDRESS_WAYS)
def test_merge_decides_nothing_where_an_address_row_keeps_hash_or_ban(
    finished_run: Operator, what: str
) -> None:
    url = finished_run.url
    plain, mapped = twins(finished_run)
    query(url, "update ip_addresses set hashed_ip_address = null where id = %s", mapped)
    keeps_addresses(finished_run, ADDRESS_WAYS[what])
    said = merges(finished_run, expect=2)
    assert "ip_addresses: " in said
    assert "did not keep what was written to " in said
    assert finished_run.waiting("ip_addresses") == {mapped: "duplicate-address"}
    query(url, "alter table ip_addresses disable trigger keeps")
    merges(finished_run)
    assert query(url, "select is_banned from ip_addresses where id = %s", plain) == [(True,)]


@pytest.mark.parametrize("what", ["hash", "row"])
def test_repair_of_hashes_likewise(proved_run: Operator, what: str) -> None:
    url = proved_run.url
    wrong = "update ip_addresses set hashed_ip_address = repeat('0', 63) || (case when id < %s then '1' else '2' end) where id in (%s, %s)"
    first, second = (key for (key,) in query(url, "select id::text from ip_addresses where is_banned is false order by id limit 2"))  # fmt: skip
    query(url, wrong, second, first, second)
    before = decided(url)
    keeps_addresses(
        proved_run,
        f"if old.id = '{first}' then {ADDRESS_WAYS[what]} end if; return new;",
        "--accept-mismatches",
        2,
    )
    words = ("repair", "ip_addresses", "--kind", "hash", "--count", 2)
    said = proved_run.types(*words, expect=2).err
    assert "ip_addresses: 1 of 2 rows did not keep what was written to hashed_ip_address" in said
    assert first in said
    assert decided(url) == before
    query(url, "alter table ip_addresses disable trigger keeps")
    proved_run.types(*words)
    assert decided(url) == [*before, ("repair", 2)]
    proved_run.types("verify")


def two_of_one_source(operator: Operator, what: str) -> list[str]:
    """Two waiting rows that a key with the link in it would not let stand beside each other, once both have the sentinel."""
    url = operator.url
    keys = sorted(operator.waiting("user_events"))
    query(url, "update user_events set source_id = (select source_id from user_events where id = %s), tag = 'twice' where id = any(%s::uuid[])", keys[0], keys[:2])  # fmt: skip
    query(url, f"create {what}")
    return keys


@pytest.mark.parametrize(
    "what",
    [
        "unique index once on user_events (source_id, ip_address_id) where tag = 'twice'",
        "unique index once on user_events (source_id, tag, (ip_address_id::text)) where tag = 'twice'",
    ],
)
def test_settle_says_which_key_the_sentinel_would_meet_in(finished_run: Operator, what: str) -> None:
    url = finished_run.url
    keys = two_of_one_source(finished_run, what)
    finished_run.types("run", "--quiet", "--accept", "unique-expression:public.user_events.once")
    words = ("quarantine", "settle", "user_events", "--count", len(keys), "--as")
    said = finished_run.types(*words, "sentinel", expect=2).err
    assert "once does not let two rows stand beside each other that would have the same ip_address_id" in said
    assert "discard" in said
    assert decided(url) == []
    finished_run.types(*words, "discard")
    assert decided(url) == [("settle", len(keys))]


def test_settle_under_a_whole_unique_key_too(finished_run: Operator) -> None:
    """Preflight counts texts that are an address; those that are none meet in the sentinel alone."""
    keys = two_of_one_source(finished_run, "unique index once on user_events (id, ip_address_id)")
    query(finished_run.url, "drop index once")
    query(finished_run.url, "alter table user_events add column visit int default 0")
    query(finished_run.url, "with numbered as (select id, row_number() over () as n from user_events) update user_events as e set visit = n from numbered where numbered.id = e.id")  # fmt: skip
    query(finished_run.url, "update user_events set visit = -1 where id = any(%s::uuid[])", keys[:2])
    query(finished_run.url, "create unique index once on user_events (visit, ip_address_id)")
    words = ("quarantine", "settle", "user_events", "--count", len(keys), "--as")
    said = finished_run.types(*words, "sentinel", expect=2).err
    assert "once does not let two rows stand beside each other" in said
    assert decided(finished_run.url) == []
    query(finished_run.url, "drop index once")
    finished_run.types(*words, "sentinel")


def test_repair_of_links_under_a_unique_key_names_it(proved_run: Operator) -> None:
    url = proved_run.url
    first, second = some(proved_run, 2)
    query(url, "update user_events as e set ip_address_string = o.ip_address_string, ip_address_id = o.ip_address_id, source_id = o.source_id, tag = 'twice' from user_events o where o.id = %s and e.id in (%s, %s)", first, first, second)  # fmt: skip
    link_elsewhere(proved_run, [second])
    query(url, "create unique index once on user_events (source_id, ip_address_id) where tag = 'twice'")
    proved_run.types("run", "--quiet", "--accept", "unique-expression:public.user_events.once")
    said = proved_run.types("repair", "user_events", "--kind", "link", "--count", 1, expect=2).err
    assert "once does not let two rows stand beside each other" in said
