"""A shadow copy from the first row to the swap: equal to a run in place, under traffic, after any kill."""

import os
import random
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2.errors
import pytest
from sqlalchemy import make_url

from backfill.database import lock_retry
from backfill.database.connection import make_engine
from backfill.geo.sources import open_geo
from backfill.jobs.resolver import Resolver
from backfill.ledger.phases import COMPARE, Phase
from backfill.plan import PYPI
from backfill.shadow import compare
from backfill.shadow.expected_rows import ExpectedRows
from tests.databases import Databases, connect, query
from tests.demo_template import GEO_PATH, SENTINEL, TABLES, digest, environment, fill_demo, live_hash
from tests.faults.stage import stretched
from tests.integration.test_shadow_catalog import schema_of
from tests.names import BLOCKERS, CHANGES
from tests.operator import Operator, ended

# Without a sample: a test that waits for a statement to wait must not take the sample's for it.
SHADOW = ("run", "user_events", "--strategy", "shadow", "--quiet", "--no-sample")
WAIT_SECONDS = 60  # a loaded machine; ends as soon as it holds


def events(url: str, table: str = "user_events") -> list[tuple]:
    """All rows without the raw text; links by address."""
    return query(
        url,
        f"""select event.id::text, event.source_id::text, event.tag, event.time, host(known.ip_address),
                   masklen(known.ip_address), event.additional, event.additional is null
              from {table} as event left join ip_addresses as known on known.id = event.ip_address_id
             order by 1""",
    )


def settle(operator: Operator, table: str = "user_events") -> None:
    waiting = len(operator.waiting(table))
    operator.types("quarantine", "settle", table, "--as", "sentinel", "--count", waiting)
    if duplicates := len(operator.waiting("ip_addresses")):
        operator.types("addresses", "merge", "--count", duplicates)


@pytest.fixture(scope="module")
def in_place(databases, home) -> list[tuple]:
    """The rows of ``user_events`` as a settled run in place leaves them."""
    databases.template("small demo", fill_demo)
    url = databases.clone("small demo")
    operator = Operator(url, environment(url, home))
    operator.types("run", "user_events", "--quiet")
    settle(operator)
    found = events(url)
    databases.drop(url)
    return found


@pytest.fixture
def held_copy(databases: Databases, clone: Callable[[str], str], home: Path) -> Operator:
    """The copy of ``user_events`` is whole, and kept up to date; the original serves."""
    databases.template("small demo", fill_demo)
    databases.template(
        "held copy",
        lambda url: Operator(url, environment(url, home)).types(*SHADOW, "--postpone-cutover") and None,
        "small demo",
    )
    url = clone("held copy")
    return Operator(url, environment(url, home))


def finish(operator: Operator) -> None:
    """Whatever state the copy is in: bring it to its end."""
    operator.types(*SHADOW, expect=None)
    settle(operator)
    operator.types("cutover", "user_events")


def test_the_demo_by_shadow_is_the_demo_in_place_row_for_row(
    fresh_demo: Operator, settled_run: Operator
) -> None:
    said = fresh_demo.types("run", "--strategy", "shadow", "--quiet", expect=1)
    assert "would lose it" in said.out
    fresh_demo.settles_everything()
    fresh_demo.types("cutover", *TABLES)
    for table in TABLES:
        assert digest(events(fresh_demo.url, table)) == digest(events(settled_run.url, table))
        assert query(fresh_demo.url, f"select to_regclass('{table}_before_backfill') is not null") == [
            (True,)
        ]
    dumps = [canonical_dump_of_addresses(one.url) for one in (fresh_demo, settled_run)]
    assert dumps[0] == dumps[1]
    # The revision waits for the old tables to go, then finds nothing left to drop.
    assert "backfill cutover --finish" in fresh_demo.having(observe="0").is_refused("0004_user_events")
    fresh_demo.types("cutover", "--finish", *TABLES)
    fresh_demo.types("verify")
    told = fresh_demo.having(observe="0").migrates()
    assert "user_events.ip_address_string is gone already" in told
    assert query(fresh_demo.url, "select to_regclass('backfill.address_map')") == [(None,)]


def canonical_dump_of_addresses(url: str) -> str:
    return digest(
        query(
            url,
            """select ip_address::text, hashed_ip_address, geoip_info, is_banned from ip_addresses
                where ip_address <> %s order by 1""",
            SENTINEL,
        )
    )


def test_a_held_cutover_leaves_the_original_serving_until_it_is_asked_for(held_copy: Operator) -> None:
    assert query(held_copy.url, "select count(ip_address_string) > 0 from user_events") == [(True,)]
    query(
        held_copy.url, "update user_events set tag = 'late' where id = (select id from user_events limit 1)"
    )
    settle(held_copy)
    held_copy.types("cutover", "user_events")
    assert query(held_copy.url, "select count(*) from user_events where tag = 'late'") == [(1,)]
    assert "is the copy already" in held_copy.types("cutover", "user_events").out
    held_copy.types("cutover", "--finish", "user_events")
    assert "no old user_events left" in held_copy.types("cutover", "--finish", "user_events").out
    assert "no shadow copy" in held_copy.types("cutover", "--finish", "team_events", expect=2).err


def test_a_lock_that_is_never_granted_leaves_the_original_serving(
    held_copy: Operator, in_place: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_retry, "ATTEMPTS", 2)
    settle(held_copy)
    raw = query(held_copy.url, "select id, ip_address_string from user_events order by 1")
    with holding(held_copy.url, CUTOVER):
        said = held_copy.types("cutover", "user_events", expect=1)
    assert "was not granted" in said.err
    assert query(held_copy.url, "select id, ip_address_string from user_events order by 1") == raw
    held_copy.types("cutover", "user_events")
    assert digest(events(held_copy.url)) == digest(in_place)


def test_abandoning_removes_every_trace(fresh_demo: Operator) -> None:
    before, rows = schema_of(fresh_demo.url), query(fresh_demo.url, "select * from user_events order by id")
    fresh_demo.types(*SHADOW, "--postpone-cutover")
    fresh_demo.types("run", "user_events", "--abandon")
    assert schema_of(fresh_demo.url) == before
    assert query(fresh_demo.url, "select * from user_events order by id") == rows
    left = query(
        fresh_demo.url,
        "select relname from pg_class where relname ~ 'shadow|changes_|blockers_|address_map|backfill_new'"
        " and relname !~ '^shadows' and relkind <> 't' and relnamespace <> 'pg_catalog'::regnamespace",
    )
    assert left == []
    assert "no shadow copy" in fresh_demo.types("run", "user_events", "--abandon", expect=2).err
    finish(fresh_demo)  # and one can begin again


def test_a_definition_that_changed_meanwhile_holds_the_cutover(held_copy: Operator) -> None:
    settle(held_copy)
    query(held_copy.url, "create index added_meanwhile on user_events (tag)")
    assert "definition was changed" in held_copy.types("cutover", "user_events", expect=1).err
    assert query(held_copy.url, "select count(ip_address_string) > 0 from user_events") == [(True,)]


def test_a_row_of_the_copy_that_differs_is_found_before_the_swap(
    fresh_demo: Operator,
) -> None:
    def damaged(phase: Phase) -> None:
        if phase != COMPARE:
            return
        query(
            fresh_demo.url,
            """with chosen as (select id, row_number() over (order by id) as n from user_events_shadow
                              where ip_address_id is not null and additional -> 'geoip_info' is not null)
               update user_events_shadow as copy
                  set tag = case chosen.n when 1 then 'other' else tag end,
                      ip_address_id = case chosen.n when 2 then null
                          when 3 then (select id from ip_addresses where id <> copy.ip_address_id limit 1)
                          else copy.ip_address_id end,
                      additional = case chosen.n when 4 then additional || '{"more": 1}' when 5 then
                          additional - 'geoip_info' else additional end
                 from chosen where chosen.id = copy.id and chosen.n <= 5;
               delete from user_events_shadow where id = (select max(id::text)::uuid from user_events_shadow);
               insert into user_events_shadow (source_id, tag) select source_id, 'surplus'
                 from user_events_shadow limit 2""",
        )

    said = fresh_demo.hooked(before_phase=damaged).types(*SHADOW, "--postpone-cutover", expect=1)
    for fault in ("1 missing", "1 differing", "1 unlinked", "1 other words", "1 geo missing", "2 surplus"):
        assert fault in said.err
    assert query(fresh_demo.url, "select count(ip_address_string) > 0 from user_events") == [(True,)]


def test_rows_that_left_the_copy_after_its_comparison_hold_the_cutover(held_copy: Operator) -> None:
    settle(held_copy)
    query(
        held_copy.url,
        "delete from user_events_shadow where id = (select max(id::text)::uuid from user_events_shadow)",
    )
    assert "1 missing" in held_copy.types("cutover", "user_events", expect=1).err


def test_links_that_were_wrong_are_looked_at_again_once_mended_and_nothing_else_is(
    fresh_demo: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_demo.types(*SHADOW, "--postpone-cutover")
    waiting = len(fresh_demo.waiting("user_events"))
    fresh_demo.types("quarantine", "settle", "user_events", "--as", "discard", "--count", waiting)
    kinds = query(fresh_demo.url, f"select kind, count(*) from backfill.{BLOCKERS} group by 1 order by 1")
    assert dict(kinds).keys() == {"rejected", "wrong"}  # the live application's links to a duplicate
    # A hash that is not the address's: nobody's change of an event will tell when that is fixed.
    query(
        fresh_demo.url,
        """create table kept as select known.id, hashed_ip_address from ip_addresses as known
             where id = (select ip_address_id from user_events join ip_addresses as known on known.id = ip_address_id
                          where ip_address_string = host(ip_address) order by user_events.id limit 1);
           update ip_addresses set hashed_ip_address = repeat('0', 64) where id in (select id from kept);
           update user_events set tag = tag where ip_address_id in (select id from kept)""",
    )
    monkeypatch.setattr(compare, "compare", None)  # a second comparison of all rows would fail
    assert "wrong" in fresh_demo.types("cutover", "user_events", expect=1).err
    fresh_demo.types("addresses", "merge", "--count", len(fresh_demo.waiting("ip_addresses")))
    said = fresh_demo.types("cutover", "user_events", expect=1)
    assert "hash wrong" in said.err
    assert " wrong, " not in said.err
    query(
        fresh_demo.url,
        "update ip_addresses as known set hashed_ip_address = kept.hashed_ip_address from kept where kept.id = known.id",
    )
    fresh_demo.types("cutover", "user_events")
    assert query(fresh_demo.url, f"select to_regclass('backfill.{BLOCKERS}')") == [(None,)]


def test_a_comparison_keeps_what_it_looks_into_while_texts_of_the_next_table_come(
    fresh_demo: Operator,
) -> None:
    """Made anew under a comparison that had its snapshot, it was empty there, and no row was plainly fine."""
    engine = make_engine(make_url(fresh_demo.url), ledger_schema="backfill")
    query(fresh_demo.url, "create schema backfill")
    first, second = PYPI.job("user_events"), PYPI.job("project_events")
    texts = "select count(distinct ip_address_string) from user_events where length(ip_address_string) <= 64"
    with (
        open_geo(GEO_PATH, PYPI.geo.keys) as geo,
        ExpectedRows(engine, "backfill", Resolver(live_hash, geo)) as proof,
    ):
        proof.read(first)
        proof.expected(PYPI.addresses, first)
        with closing(connect(fresh_demo.url)) as reading, reading.cursor() as cursor:
            cursor.execute("begin isolation level repeatable read")
            cursor.execute("select count(*) from backfill.shadow_expected")
            seen = cursor.fetchall()
            assert seen == query(fresh_demo.url, texts)
            proof.read(second)
            thread = threading.Thread(target=proof.expected, args=(PYPI.addresses, second))
            thread.start()
            thread.join(20)
            assert not thread.is_alive(), "it waits for the comparison"
            cursor.execute("select count(*) from backfill.shadow_expected")
            assert cursor.fetchall() == seen
        both = """
            select count(distinct raw)
              from (select ip_address_string as raw from user_events
                    union all select ip_address_string from project_events) as either
             where length(raw) <= 64
        """
        assert query(
            fresh_demo.url, "select count(*), count(distinct raw) from backfill.shadow_expected"
        ) == [query(fresh_demo.url, both)[0] * 2]
    engine.dispose()


def test_the_notes_hold_keys_and_nothing_else(held_copy: Operator) -> None:
    query(
        held_copy.url,
        "update user_events set ip_address_string = '9.9.9.9' where ip_address_id is null",
    )
    columns = query(
        held_copy.url,
        "select attname, atttypid::regtype::text from pg_attribute"
        f" where attrelid = 'backfill.{CHANGES}'::regclass and attnum > 0",
    )
    assert columns == [("id", "bigint"), ("key", "uuid")]
    held_copy.types("addresses", "merge", "--count", 1)
    held_copy.types("cutover", "user_events")
    linked = query(
        held_copy.url,
        "select count(*) from user_events join ip_addresses as known on known.id = ip_address_id"
        " where host(ip_address) = '9.9.9.9'",
    )
    assert linked[0][0] > 1_000


def test_a_truncated_table_is_truncated_in_the_copy(held_copy: Operator) -> None:
    query(
        held_copy.url,
        """create temporary table kept as select * from user_events limit 3;
           truncate user_events; insert into user_events select * from kept""",
    )
    held_copy.types("cutover", "user_events")
    assert query(held_copy.url, "select count(*) from user_events") == [(3,)]


def test_a_disk_without_room_for_the_copy_is_told_before_anything_is_made(fresh_demo: Operator) -> None:
    """The table's file is made to look larger than the disk is free: further segments, holes from end to end."""
    url = fresh_demo.url
    query(url, "checkpoint")
    folder, path = query(
        url, "select current_setting('data_directory'), pg_relation_filepath('user_events')"
    )[0]
    file, segment = Path(folder, path), 1 << 30
    if not file.exists():
        pytest.skip("the server's files are not on this machine")
    more = [
        file.with_name(f"{file.name}.{number}")
        for number in range(1, 2 + shutil.disk_usage(folder).free // segment)
    ]
    before = schema_of(url)
    try:
        for one in more:
            with one.open("wb") as hole:
                hole.truncate(segment)
        said = fresh_demo.types(*SHADOW, expect=2)
    finally:
        for one in more:
            one.unlink(missing_ok=True)
    assert "A shadow copy of user_events takes about" in said.err
    assert "MB are free" in said.err
    assert schema_of(url) == before
    assert query(url, "select count(*) from backfill.runs") == [(0,)]
    finish(fresh_demo)


# The load evaluates a CHECK, an index build its expression: both wait while the test holds a lock.
PAUSES = """
    create function pause_load(text) returns boolean language plpgsql as $$
    begin perform pg_catalog.pg_advisory_xact_lock_shared(41); return true; end $$;
    create function pause_index(text) returns text language plpgsql immutable as $$
    begin perform pg_catalog.pg_advisory_xact_lock_shared(42); return $1; end $$;
    alter table user_events add check (pause_load(tag));
    create index on user_events (pause_index(tag))
"""
LOAD, INDEX = "select pg_advisory_lock(41)", "select pg_advisory_lock(42)"
REPLAY = f"lock table backfill.{CHANGES} in share mode"
VERIFICATION = "lock table ip_addresses in access exclusive mode"
CUTOVER = "lock table user_events in access share mode"


@pytest.mark.parametrize(
    "phase",
    [
        "replay",
        "cut-over",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("load", "index", "verification")),
    ],
)
def test_a_kill_in_any_phase_and_the_same_command_again_end_as_if_nothing_had_been(
    fresh_demo: Operator, in_place: list[tuple], phase: str
) -> None:
    url = fresh_demo.url
    query(url, PAUSES)
    operator = fresh_demo.having(batch_blocks="8", workers="2")
    words: tuple[str, ...] = SHADOW
    if phase == "cut-over":
        operator.types(*SHADOW, "--postpone-cutover")
        settle(operator)
        words = ("cutover", "user_events")
    first = {"load": LOAD, "cut-over": CUTOVER}.get(phase, INDEX)
    with holding(url, first) as release_first, ended(operator.starts(*words)) as process:
        until_it_waits(url, process)
        if phase in ("replay", "verification"):
            with holding(url, REPLAY) as release_replay:
                release_first()
                until_it_waits(url, process)
                if phase == "replay":
                    kill(process)
                else:
                    with holding(url, VERIFICATION):
                        release_replay()
                        until_it_waits(url, process)
                        kill(process)
        else:
            kill(process)
    assert query(url, "select count(ip_address_string) > 0 from user_events") == [(True,)]  # it serves
    changed = query(
        url,
        "update user_events set tag = 'changed while nobody looked'"
        " where id in (select id from user_events order by id limit 7) returning id::text",
    )
    if phase != "cut-over":
        operator.types(*SHADOW, expect=None)
        settle(operator)
    operator.types("cutover", "user_events")
    expected = [
        (row[0], row[1], "changed while nobody looked", *row[3:]) if (row[0],) in changed else row
        for row in in_place
    ]
    assert digest(events(url)) == digest(expected)


@contextmanager
def stopped_in(url: str, process, phase: str) -> Iterator[None]:
    """The run has come to a statement of that phase that does not end before the block does."""
    with holding(url, INDEX) as release_index:
        until_it_waits(url, process)
        if phase == "index":
            yield
            return
        with holding(url, VERIFICATION if phase == "foreign key" else REPLAY) as release:
            release_index()
            until_it_waits(url, process)
            if phase == "foreign key":
                yield
                return
            with holding(url, VERIFICATION):
                release()
                until_it_waits(url, process)
                yield


HEARD_SECONDS = 2.0 + 3.0  # what is promised, and what a session that settles first may add
TRACES = """
    select relname from pg_class
     where relname ~ 'shadow|changes_|blockers_|address_map|backfill_new' and relname !~ '^shadows' and relkind <> 't'
       and relnamespace <> 'pg_catalog'::regnamespace
"""


@pytest.mark.parametrize(
    "phase",
    ["index", *(pytest.param(one, marks=pytest.mark.slow) for one in ("foreign key", "verification"))],
)
def test_a_pause_is_heard_whatever_the_copy_is_doing_and_the_run_goes_on(
    fresh_demo: Operator, in_place: list[tuple], phase: str
) -> None:
    url = fresh_demo.url
    query(url, PAUSES)
    with ended(fresh_demo.starts(*SHADOW, "--postpone-cutover")) as process:
        with stopped_in(url, process, phase):
            fresh_demo.types("pause")
            began = time.monotonic()
            until(lambda: query(url, "select status from backfill.runs") == [("paused",)])
            assert time.monotonic() - began < stretched(HEARD_SECONDS)
            assert not query(url, WAITING)[0][0]
        fresh_demo.types("resume")
        out, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, (out, err)
    settle(fresh_demo)
    fresh_demo.types("cutover", "user_events")
    assert digest(events(url)) == digest(in_place)


@pytest.mark.parametrize(
    "phase",
    ["verification", *(pytest.param(one, marks=pytest.mark.slow) for one in ("index", "foreign key"))],
)
def test_a_cancel_ends_the_run_and_takes_the_copy_with_it(fresh_demo: Operator, phase: str) -> None:
    url = fresh_demo.url
    query(url, PAUSES)
    before, rows = schema_of(url), query(url, "select * from user_events order by id")
    with ended(fresh_demo.starts(*SHADOW)) as process:
        with stopped_in(url, process, phase):
            said = fresh_demo.types("cancel").out
            assert "removes its copies" in said
            began = time.monotonic()
            until(lambda: query(url, "select status from backfill.runs") == [("cancelled",)])
            assert time.monotonic() - began < stretched(HEARD_SECONDS)
        out, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 3, (out, err)
    assert "copy of user_events is removed" in out
    assert schema_of(url) == before
    assert query(url, TRACES) == []
    assert query(url, "select * from user_events order by id") == rows


def test_ctrl_c_is_heard_while_indexes_are_built(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    query(url, PAUSES)
    with ended(fresh_demo.starts(*SHADOW)) as process, stopped_in(url, process, "index"):
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_SECONDS)
        assert time.monotonic() - began < stretched(HEARD_SECONDS)
    assert process.returncode == 3, (out, err)
    assert "SIGINT was received" in err
    finish(fresh_demo)


@pytest.mark.parametrize(
    "state",
    [
        "killed",
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ("held", "cancelled by a driver that was killed")
        ),
    ],
)
def test_a_cancel_without_a_driver_takes_the_copy_with_it(fresh_demo: Operator, state: str) -> None:
    url = fresh_demo.url
    query(url, PAUSES)
    before = schema_of(url)
    if state == "held":
        fresh_demo.types(*SHADOW, "--postpone-cutover")
    else:
        with ended(fresh_demo.starts(*SHADOW)) as process, stopped_in(url, process, "index"):
            kill(process)
        if state != "killed":
            query(url, "update backfill.runs set status = 'cancelled'")
    assert "copy of user_events is removed" in fresh_demo.types("cancel").out
    assert query(url, TRACES) == []
    assert schema_of(url) == before
    assert fresh_demo.types("cancel", expect=None).code != 0  # nothing is left to cancel
    finish(fresh_demo)


def until_it_waits(url: str, process) -> None:
    """Until somebody in this database waits for a lock of ours, and a while longer: the one before may have ended.

    Sessions of one command wait for each other too, on a loaded machine at each look.
    """

    def waits() -> bool:
        assert process.poll() is None, process.communicate()
        return query(url, WAITING)[0][0]

    for _ in range(3):
        until(waits)
        time.sleep(0.02)


WAITING = """
    select count(*) > 0 from pg_stat_activity
     where datname = current_database() and wait_event_type = 'Lock' and application_name = 'backfill'
       and exists (select from pg_stat_activity as holder
                    where holder.pid = any (pg_blocking_pids(pg_stat_activity.pid)) and holder.application_name <> 'backfill')
"""


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill(process) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def holding(url: str, lock: str) -> Iterator[Callable[[], None]]:
    """Holds a lock until the end, or until the function given is called."""
    with closing(connect(url, autocommit=False)) as other:
        other.cursor().execute(lock)

        def release() -> None:
            other.cursor().execute("select pg_advisory_unlock_all()")
            other.rollback()

        yield release


def test_live_inserts_updates_and_deletes_are_all_in_the_copy(
    fresh_demo: Operator, in_place: list[tuple]
) -> None:
    """A writer goes on throughout, cut-over included; afterwards every row is compared, its own and all others."""
    url = fresh_demo.url
    texts: dict[str, str] = {}  # id → raw address, as long as there is a column for it
    written: dict[str, str | None] = {}  # id → tag; None: deleted
    stop, problems = threading.Event(), []

    def write() -> None:
        chance = random.Random(1)
        with closing(connect(url)) as connection, connection.cursor() as cursor:
            # Rows that wait in the quarantine are left alone: their number is the confirmation.
            cursor.execute(
                "select id::text from user_events where ip_address_id is not null order by id limit 400"
            )
            known = [key for (key,) in cursor.fetchall()]
            cursor.execute("select source_id from user_events limit 1")
            (source,) = cursor.fetchone()
            while not stop.is_set():
                try:
                    what = chance.random()
                    if what < 0.5 or not known:
                        key = str(uuid.UUID(int=chance.getrandbits(128)))
                        text = f"203.0.113.{chance.randrange(256)}"
                        try:
                            cursor.execute(
                                "insert into user_events (id, source_id, tag, ip_address_string)"
                                " values (%s, %s, 'new', %s)",
                                (key, source, text),
                            )
                            texts[key] = text
                        except psycopg2.errors.UndefinedColumn:  # the copy serves
                            cursor.execute(
                                "insert into user_events (id, source_id, tag) values (%s, %s, 'new')",
                                (key, source),
                            )
                        known.append(key)
                        written[key] = "new"
                    elif what < 0.8:
                        key = chance.choice(known)
                        cursor.execute(
                            "update user_events set tag = tag || '+' where id = %s returning tag", (key,)
                        )
                        written[key] = cursor.fetchone()[0]
                    else:
                        key = known.pop(chance.randrange(len(known)))
                        cursor.execute("delete from user_events where id = %s", (key,))
                        written[key] = None
                except Exception as error:
                    problems.append(error)
                    return
                time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        operator = fresh_demo.having(batch_blocks="8", workers="2")
        operator.types(*SHADOW, "--postpone-cutover")
        settle(operator)
        operator.types("cutover", "user_events")
        time.sleep(0.1)
    finally:
        stop.set()
        writer.join()
    assert not problems
    assert len(written) > 100
    found = dict(query(url, "select id::text, tag from user_events"))
    assert {key: found.get(key) for key in written} == written
    before = {key for (key,) in query(url, "select id::text from user_events_before_backfill")}
    assert before - set(found) <= {key for key, tag in written.items() if tag is None}
    linked = dict(
        query(
            url,
            "select event.id::text, host(ip_address) from user_events as event"
            " join ip_addresses as known on known.id = ip_address_id",
        )
    )
    alive = {key: text for key, text in texts.items() if key in found}
    assert len(alive) > 20
    assert {key: linked.get(key) for key in alive} == alive
    untouched = [row for row in events(url) if row[0] not in written]
    assert digest(untouched) == digest([row for row in in_place if row[0] not in written])
