"""A run that is disturbed: an emptied map, a rewritten table, a lost lease, an order from another shell."""

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import make_url

from backfill.database.blocks import heap_of
from backfill.database.connection import make_engine
from backfill.errors import TableRewritten
from backfill.jobs import address_rows, apply, closing_count, resolve
from backfill.ledger import batches, claims, runs
from backfill.ledger.address_map import MapIncomplete
from backfill.ledger.batches import Batch
from backfill.ledger.claims import LeaseLost, Stopped
from backfill.ledger.phases import FILL, LINK, Phase, Work
from backfill.ledger.run_state import RunState
from backfill.plan import PYPI
from tests.databases import query
from tests.demo_template import TABLES, canonical_dump
from tests.faults.stage import in_background
from tests.names import identity
from tests.operator import Operator

SMALL = ("--quiet", "--no-sample", "--batch-blocks", "4")


@pytest.fixture(scope="session")
def undisturbed() -> dict[str, Any]:
    """Filled by the first test that asks: the state that every disturbed run has to come to."""
    return {}


@pytest.fixture
def expected(undisturbed: dict[str, Any], operator_of: Callable[[str], Operator]) -> dict[str, Any]:
    if not undisturbed:
        undisturbed |= canonical_dump(operator_of("run").url)
    return undisturbed


class Interrupted(BaseException):
    """As a kill would end the driver, without giving it a word."""


def cut_off(phase: Phase) -> None:
    """As ``before_phase``: the driver ends just before the workers have anything to do."""
    if phase.by_workers:
        raise Interrupted


def in_order(act: Callable[[int], None]) -> Callable[[Batch], None]:
    """As ``before_batch``: *act* is told the number of each batch that workers begin."""
    begun = itertools.count(1)

    def hook(batch: Batch) -> None:
        if batch.phase.by_workers:
            act(next(begun))

    return hook


@pytest.fixture
def half_done_run(fresh_demo: Operator) -> Operator:
    """Everything is resolved, about half of the link batches are done, and the driver is gone."""

    def some(number: int) -> None:
        if number > 12:
            raise Interrupted

    with pytest.raises(Interrupted):
        fresh_demo.hooked(before_batch=in_order(some)).types("run", *SMALL)
    states = dict(
        query(fresh_demo.url, "select status, count(*) from backfill.batches where phase = 'link' group by 1")
    )
    assert states["succeeded"] == 12
    assert states["pending"] > 0
    return fresh_demo


def test_a_half_done_run_is_resumed_at_its_place(half_done_run: Operator, expected: dict[str, Any]) -> None:
    done = query(half_done_run.url, "select id, finished from backfill.batches where status = 'succeeded'")
    said = half_done_run.types("run", *SMALL)
    assert "Resuming run 1, phase link, attempt 2." in said.out
    assert canonical_dump(half_done_run.url) == expected
    assert set(done) <= set(query(half_done_run.url, "select id, finished from backfill.batches"))
    assert query(half_done_run.url, "select id, status, attempts from backfill.runs") == [(1, "succeeded", 2)]


def test_status_says_where_a_half_done_run_stands(half_done_run: Operator) -> None:
    said = half_done_run.types("status").out
    assert "Run 1 is running, phase link, attempt 1" in said


@pytest.mark.parametrize(
    "emptied",
    [
        "backfill.address_map",
        pytest.param("backfill.address_map, backfill.address_map_complete", marks=pytest.mark.slow),
    ],
)
def test_a_map_that_was_emptied_is_resolved_again(
    half_done_run: Operator, expected: dict[str, Any], emptied: str
) -> None:
    query(half_done_run.url, f"truncate {emptied}")
    half_done_run.types("run", *SMALL)
    assert canonical_dump(half_done_run.url) == expected


def test_a_map_that_is_emptied_under_the_workers_is_noticed(
    fresh_demo: Operator, expected: dict[str, Any]
) -> None:
    """As by a crash that the driver survives: its next look finds the marker gone."""

    def emptying(number: int) -> None:
        if number == 5:
            query(fresh_demo.url, "truncate backfill.address_map, backfill.address_map_complete")

    said = fresh_demo.hooked(before_batch=in_order(emptying)).types("run", *SMALL)
    assert "The address map was emptied by a crash of the server: resolving again." in said.out
    assert canonical_dump(fresh_demo.url) == expected


def test_no_link_is_made_from_a_map_that_is_not_complete(half_done_run: Operator) -> None:
    query(half_done_run.url, "truncate backfill.address_map_complete")
    with batch_in_hand(half_done_run) as (engine, batch, lease):
        job = PYPI.job(batch.job)
        with engine.begin() as connection:
            filenode = heap_of(connection, job).filenode
        with pytest.raises(MapIncomplete):
            apply.process(engine, "backfill", job, batch, lease, filenode)


@contextmanager
def batch_in_hand(operator: Operator) -> Iterator[tuple[Any, Batch, uuid.UUID]]:
    """A claimed link batch of the half-done run."""
    engine = make_engine(make_url(operator.url), ledger_schema="backfill")
    try:
        with engine.begin() as connection:
            claims.reclaim(connection, 1)
            waiting = [row.id for row in batches.phase(connection, 1, LINK) if row.status == "pending"]
            claimed = claims.claim(connection, waiting[0])
        assert claimed
        yield engine, *claimed
    finally:
        engine.dispose()


def test_the_map_is_unlogged_never_in_the_statistics_and_gone_at_the_end(half_done_run: Operator) -> None:
    url = half_done_run.url
    query(url, "analyze")
    assert query(url, "select relpersistence::text from pg_class where oid = 'backfill.address_map'::regclass") == [("u",)]  # fmt: skip
    statistics = """select attname from pg_statistic join pg_attribute on attrelid = starelid and attnum = staattnum
                     where starelid = 'backfill.address_map'::regclass"""
    assert query(url, statistics) in ([], [("reason",)])
    assert query(
        url, "select reltuples > 100 from pg_class where oid = 'backfill.address_map'::regclass"
    ) == [(True,)]
    assert query(url, "select max(length(raw)) <= 64 from backfill.address_map") == [(True,)]
    half_done_run.types("run", *SMALL)
    assert query(
        url, "select to_regclass('backfill.address_map'), to_regclass('backfill.address_map_complete')"
    ) == [(None, None)]


def test_a_worker_whose_lease_was_given_to_another_cannot_write(half_done_run: Operator) -> None:
    url = half_done_run.url
    with batch_in_hand(half_done_run) as (engine, batch, old_lease):
        job = PYPI.job(batch.job)
        with engine.begin() as connection:
            filenode = heap_of(connection, job).filenode
            assert claims.claim(connection, batch.id) is None  # held, and not run out
        query(url, "update backfill.batches set lease_until = now() - interval '1 s' where id = %s", batch.id)
        with engine.begin() as connection:
            taken_over = claims.claim(connection, batch.id)
        assert taken_over
        before = query(url, f"select array_agg(xmin::text order by id) from {job.table}")
        with pytest.raises(LeaseLost):
            apply.process(engine, "backfill", job, batch, old_lease, filenode)
        with engine.begin() as connection:
            claims.fail(connection, batch.id, old_lease, "too late")
            claims.release(connection, batch.id, old_lease)
        assert query(url, f"select array_agg(xmin::text order by id) from {job.table}") == before
        assert query(
            url, "select status, passes_done, lease from backfill.batches where id = %s", batch.id
        ) == [("running", 0, str(taken_over[1]))]


def test_a_worker_stops_between_two_passes_when_the_run_is_told_to(half_done_run: Operator) -> None:
    with batch_in_hand(half_done_run) as (engine, batch, lease):
        job = PYPI.job(batch.job)
        with engine.begin() as connection:
            filenode = heap_of(connection, job).filenode
            apply.run_pass(connection, "backfill", job, batch, lease, filenode)
        with engine.begin() as connection:
            runs.move(connection, 1, RunState.PAUSING)
        with pytest.raises(Stopped), engine.begin() as connection:
            apply.run_pass(connection, "backfill", job, batch, lease, filenode)
    assert query(half_done_run.url, "select passes_done from backfill.batches where id = %s", batch.id) == [
        (1,)
    ]


def test_data_and_checkpoint_are_one_transaction(half_done_run: Operator) -> None:
    url = half_done_run.url
    with batch_in_hand(half_done_run) as (engine, batch, lease):
        job = PYPI.job(batch.job)
        linked = f"select count(ip_address_id) from {job.table}"
        before = query(url, linked), query(url, "select passes_done, written from backfill.batches where id = %s", batch.id)  # fmt: skip
        with engine.connect() as connection:
            filenode = heap_of(connection, job).filenode
            counts, done = apply.run_pass(connection, "backfill", job, batch, lease, filenode)
            assert counts.written
            assert done == 1
            connection.rollback()
        after = query(url, linked), query(url, "select passes_done, written from backfill.batches where id = %s", batch.id)  # fmt: skip
        assert after == before


def test_many_texts_are_entered_in_several_transactions_and_a_kill_between_them_loses_none(
    fresh_demo: Operator, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    entering, entered = address_rows.enter, 0

    def some(*words: Any) -> int:
        nonlocal entered
        if entered == 5:
            raise Interrupted
        entered += 1
        assert len(words[-1]) <= 50
        return entering(*words)

    monkeypatch.setattr(resolve, "TEXTS_AT_ONCE", 50)
    with monkeypatch.context() as patch:
        patch.setattr(address_rows, "enter", some)
        with pytest.raises(Interrupted):
            fresh_demo.types("run", "--quiet", "--workers", "1", "--no-sample")
    counts = """
        select (select count(*) from backfill.address_map), (select map_rows from backfill.runs),
               (select sum(written) from backfill.batches where phase = 'resolve'),
               (select count(*) from backfill.batches where phase = 'resolve' and status = 'succeeded')
    """
    in_map, in_run, in_batches, done = query(fresh_demo.url, counts)[0]
    assert (in_map, in_map, 0) == (in_run, in_batches, done)
    assert in_map >= 200, "five parts of one batch, less a spelling or two of another's address"
    fresh_demo.types("run", "--quiet", "--workers", "1", "--no-sample")
    assert canonical_dump(fresh_demo.url) == expected


def test_a_batch_of_a_table_with_another_file_is_not_touched(half_done_run: Operator) -> None:
    with batch_in_hand(half_done_run) as (engine, batch, lease):
        job = PYPI.job(batch.job)
        with engine.begin() as connection:
            filenode = heap_of(connection, job).filenode
        query(half_done_run.url, f"vacuum full {job.table}")
        with pytest.raises(TableRewritten):
            apply.process(engine, "backfill", job, batch, lease, filenode)


@pytest.mark.parametrize("rewritten", [TABLES, pytest.param(("user_events",), marks=pytest.mark.slow)])
def test_tables_rewritten_between_two_batches_are_planned_again(
    half_done_run: Operator, expected: dict[str, Any], rewritten: tuple[str, ...]
) -> None:
    for table in rewritten:
        query(half_done_run.url, f"vacuum full {table}")
    said = half_done_run.types("run", *SMALL)
    assert "was rewritten meanwhile" in said.out
    assert canonical_dump(half_done_run.url) == expected


def test_rows_that_move_or_come_behind_the_last_block_are_swept(
    fresh_demo: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh_demo.url
    holding: list[int] = []  # blocks: how many they are depends on what vacuum has found free

    def busy(phase: Phase) -> None:
        if phase == FILL:
            query(
                url,
                """insert into user_events (source_id, tag, ip_address_string)
                   select source_id, 'late', '203.0.113.' || row_number() over () from user_events limit 50""",
            )
            where = "select count(distinct (ctid::text::point)[0]) from user_events where tag = 'late'"
            holding.append(query(url, where)[0][0])

    monkeypatch.setattr(closing_count, "STRETCH", 1)
    fresh_demo.hooked(before_phase=busy).types("run", *SMALL)
    late = "select count(*), count(ip_address_id) from user_events where tag = 'late'"
    assert query(url, late) == [(50, 50)]
    swept = "select sum(last_block - first_block) from backfill.batches where phase = %s and job = %s"
    (elsewhere,), (here,) = (
        query(url, swept, Phase(Work.LINK, 1).name, identity(name))[0]
        for name in ("team_events", "user_events")
    )
    assert elsewhere == 0, "nothing was left there"
    assert holding[0] <= here < holding[0] + 5, "only where the late rows are, or one that was left besides"


def test_a_sweep_that_was_begun_before_a_kill_is_ended_and_another_follows(fresh_demo: Operator) -> None:
    """It goes where its own driver had seen something, finds nothing there any more, and that is not the end."""
    url = fresh_demo.url

    def late(phase: Phase) -> None:
        if phase == FILL:
            query(
                url,
                """insert into user_events (source_id, tag, ip_address_string)
                   select source_id, 'late', ip_address_string from user_events
                    where ip_address_id is not null and ip_address_string is not null limit 50""",
            )
        elif phase == Phase(Work.LINK, 1):
            raise Interrupted

    with pytest.raises(Interrupted):
        fresh_demo.hooked(before_phase=late).types("run", *SMALL)
    query(url, "delete from user_events where tag = 'late'")
    query(
        url,
        """insert into team_events (source_id, tag, ip_address_string)
           select source_id, 'late', '203.0.113.' || row_number() over () from team_events limit 50""",
    )
    fresh_demo.types("run", *SMALL)
    late_rows = "select count(*), count(ip_address_id) from team_events where tag = 'late'"
    assert query(url, late_rows) == [(50, 50)]


def test_a_run_ends_under_constant_inserts_and_says_what_it_left(fresh_demo: Operator) -> None:
    url = fresh_demo.url

    def busy(phase: Phase) -> None:
        if phase.by_workers:
            query(
                url,
                """insert into user_events (source_id, tag, ip_address_string)
                   select source_id, 'late', '203.0.113.' || (select count(*) from user_events where tag = 'late')
                     from user_events limit 1""",
            )

    fresh_demo.hooked(after_phase=busy).types("run", *SMALL)
    assert query(
        url, "select left_to_live from backfill.run_tables where job = 'public.user_events.ip_address_string'"
    ) == [(1,)]
    assert query(url, "select count(*), count(ip_address_id) from user_events where tag = 'late'") == [(4, 3)]


def test_an_address_that_the_live_application_inserts_meanwhile_is_used(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    query(url, "insert into user_events (source_id, tag, ip_address_string) select source_id, 'race', '203.0.113.50' from user_events limit 1")  # fmt: skip

    def busy(phase: Phase) -> None:
        if phase.work is Work.RESOLVE:
            query(
                url,
                """insert into ip_addresses (ip_address, hashed_ip_address) values ('203.0.113.50', 'live')
                   on conflict do nothing""",
            )

    fresh_demo.hooked(before_phase=busy).types("run", *SMALL)
    assert query(
        url,
        """select hashed_ip_address from ip_addresses ip join user_events e on e.ip_address_id = ip.id
            where e.tag = 'race'""",
    ) == [("live",)]


def test_an_order_to_pause_from_another_session_is_obeyed(
    half_done_run: Operator, expected: dict[str, Any]
) -> None:
    """The driver stays and waits, with nothing in hand, until another session says that it may go on."""
    url = half_done_run.url
    stood: list[tuple[Any, ...]] = []

    def paused(number: int) -> None:
        if number == 1:
            query(url, "update backfill.runs set status = 'pausing' where status = 'running'")

    def look() -> tuple[Any, ...]:
        return query(
            url, "select sum(written), count(*) filter (where status = 'running') from backfill.batches"
        )[0]

    def another_shell(done: threading.Event) -> None:
        while not done.wait(0.05):
            if query(url, "select 1 from backfill.runs where status = 'paused'"):
                stood.append(look())
                time.sleep(1)
                stood.append(look())
                query(url, "update backfill.runs set status = 'running'")
                return

    with in_background(another_shell):
        half_done_run.hooked(before_batch=in_order(paused)).types(
            "run", *SMALL, "--max-runtime", "5m"
        )  # an end for whatever goes wrong here
    assert len(stood) == 2
    assert stood[0] == stood[1]
    assert stood[0][1] == 0
    assert query(url, "select status, attempts from backfill.runs") == [("succeeded", 2)]
    assert canonical_dump(url) == expected


def test_a_batch_that_fails_for_good_fails_the_run_and_the_next_attempt_mends_it(
    fresh_demo: Operator, expected: dict[str, Any]
) -> None:
    url = fresh_demo.url
    query(
        url,
        """create function refuse() returns trigger language plpgsql as
           $$ begin raise exception 'no, not %', new.ip_address_string; end $$;
           create trigger refuse before update on team_events for each row execute function refuse()""",
    )
    accepted = ("--accept", "before-trigger:public.team_events.refuse")
    said = fresh_demo.types("run", *SMALL, *accepted, expect=1)
    assert "batches could not be done; the first, team_events blocks 0 to " in said.err
    assert "P0001" in said.err
    raws = {raw for (raw,) in query(url, "select distinct ip_address_string from team_events where length(ip_address_string) > 6")}  # fmt: skip
    assert not [raw for raw in raws if raw in said.out + said.err]
    assert query(url, "select status from backfill.runs") == [("failed",)]
    assert "batches could not be done" in fresh_demo.types("status").out
    query(url, "drop trigger refuse on team_events")
    fresh_demo.types("run", *SMALL)
    assert canonical_dump(url) == expected


@pytest.mark.parametrize("workers", ["3", pytest.param("1", marks=pytest.mark.slow)])
def test_any_number_of_workers_comes_to_the_same(
    fresh_demo: Operator, expected: dict[str, Any], workers: str
) -> None:
    fresh_demo.having(workers=workers, passes="4").types("run", "--quiet", "--batch-blocks", "3")
    assert canonical_dump(fresh_demo.url) == expected


def test_two_runs_of_other_jobs_do_not_take_each_others_map_for_theirs(
    fresh_demo: Operator, expected: dict[str, Any]
) -> None:
    for table in ("user_events", "project_events"):
        with pytest.raises(Interrupted):
            fresh_demo.hooked(before_phase=cut_off).types("run", table, *SMALL)
    fresh_demo.types("run", "user_events", *SMALL)
    fresh_demo.types("run", "project_events", *SMALL)
    fresh_demo.types("run", *SMALL)
    assert canonical_dump(fresh_demo.url) == expected


def test_an_empty_table_is_no_trouble(fresh_demo: Operator) -> None:
    query(fresh_demo.url, "truncate team_events")
    fresh_demo.types("run", *SMALL)
    assert "team_events" in fresh_demo.types("status").out


def test_a_ledger_may_bear_another_name(fresh_demo: Operator) -> None:
    elsewhere = fresh_demo.having(schema="our_ledger")
    elsewhere.types("run", *SMALL)
    assert query(fresh_demo.url, "select to_regnamespace('backfill')") == [(None,)]
    elsewhere.settles_everything()
    elsewhere.types("verify")
    elsewhere.migrates()
    assert query(fresh_demo.url, "select version_num from our_ledger.alembic_version") == [
        ("0005d_drop_ip_address",)
    ]
