"""A few blocks never hash the whole map, many never probe it row by row, and the passes of a batch leave it alone."""

from collections.abc import Iterator

import pytest
from psycopg2 import sql
from sqlalchemy import Connection, make_url

from backfill.database.blocks import Range
from backfill.database.connection import driver, execute, make_engine, rows
from backfill.database.writing import writes
from backfill.jobs import batch_map, link
from backfill.jobs.passes import pass_of
from backfill.jobs.resolve import new_texts
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.ledger.phases import LINK, Phase, Work
from backfill.plan import Addresses, LinkJob

JOB = LinkJob(table="event", time=None)
EVENT_ROWS = 400_000  # about 5,000 blocks
SCHEMA = "public"


@pytest.fixture(scope="module")
def connection(databases) -> Iterator[Connection]:
    """An event table of about 5,000 blocks and an empty map."""
    url = databases.create()
    engine = make_engine(make_url(url), ledger_schema=SCHEMA)
    with engine.connect() as open_connection:
        execute(
            open_connection,
            sql.SQL("""
                create table public.ip_addresses (id uuid primary key);
                create table public.event (id int, ip_address_string text, additional jsonb, ip_address_id uuid);
                insert into public.event select n, '10.' || n %% 200 || '.' || n %% 251 || '.' || n %% 241, '{"a": "some words"}'
                  from generate_series(1, %s) as n;
                analyze public.event
            """),
            (EVENT_ROWS,),
        )
        address_map.create(open_connection, SCHEMA, Addresses(table="ip_addresses"))
        open_connection.commit()
        yield open_connection
        open_connection.rollback()
    engine.dispose()


@pytest.fixture(scope="module", params=[10_000, 2_000_000])
def texts(connection: Connection, request) -> int:
    """The map at that size, as a run leaves it."""
    execute(
        connection,
        sql.SQL("""
            truncate public.address_map;
            insert into public.address_map
            select n::text, '00000000-0000-0000-0000-000000000000', '{"geoip_info": {"city": "A"}}'
              from generate_series(1, %s) as n;
            analyze public.address_map
        """),
        (request.param,),
    )
    connection.commit()
    return request.param


def explained(connection: Connection, statement: sql.Composable) -> str:
    with writes(connection, JOB):  # the plan of the statement as it runs: under the application's path
        found = rows(connection, sql.SQL("explain ") + statement)
    connection.rollback()
    return text_of(found)


def text_of(found: list[tuple[str]]) -> str:
    return "\n".join(line for (line,) in found)


def plan_of_one_pass(connection: Connection, blocks: int) -> str:
    now = pass_of(Range(0, blocks), 1, 0)
    batch_map.choose_join(connection, SCHEMA, JOB, blocks, texts_only=False)
    return explained(connection, link.statement(address_map.name(SCHEMA), JOB, now))


def plan_of_excerpt(connection: Connection, blocks: int) -> str:
    batch = Batch(1, 1, LINK, JOB.name, Range(0, blocks), 8, 0)
    batch_map.choose_join(connection, SCHEMA, JOB, blocks, texts_only=True)
    made, _, _ = (
        batch_map.statement(link.LinkWriter(JOB, SCHEMA), batch).as_string(driver(connection)).rpartition(";")
    )
    found = rows(connection, sql.SQL("explain ") + sql.SQL(made))
    connection.rollback()
    return text_of(found)


def test_a_batch_of_20_blocks_probes_the_map(connection: Connection, texts: int) -> None:
    plan = plan_of_one_pass(connection, 20)
    if texts > batch_map.PROBES_PER_ROW * 20 * 80:
        assert "Nested Loop" in plan
        assert "Index Scan using address_map_pkey" in plan
        assert "Hash" not in plan
    assert "Tid Range Scan" in plan


def test_a_pass_over_5000_blocks_hashes_the_map(connection: Connection, texts: int) -> None:
    plan = plan_of_one_pass(connection, 5_000)
    assert "Hash Join" in plan
    assert "Nested Loop" not in plan


def test_a_sweep_never_hashes_the_map_and_tells_rows_that_are_done_without_it(
    connection: Connection, texts: int
) -> None:
    execute(connection, batch_map.PROBE)
    now = pass_of(Range(0, 32_000), 1, 0)
    plan = explained(connection, link.statement(address_map.name(SCHEMA), JOB, now, few=True))
    assert "Index Scan using address_map_pkey" in plan
    assert "Hash" not in plan
    scan = plan[plan.index("Tid Range Scan") : plan.index("Index Scan using address_map_pkey")]
    assert "ip_address_id IS NULL" in scan  # asked of the row alone, before any look


def test_both_halves_of_a_sweep_are_told_to_probe(connection: Connection, texts: int) -> None:
    for phase, part in ((Phase(Work.LINK, 1), "link"), (Phase(Work.RESOLVE, 1), "resolve")):
        batch = Batch(1, 1, phase, JOB.name, Range(0, 8), 1, 0)
        if part == "link":
            link.link_rows(connection, SCHEMA, JOB, batch, pass_of(batch.range, 1, 0))
        else:
            new_texts(connection, SCHEMA, JOB, batch)
        assert rows(connection, sql.SQL("show enable_hashjoin")) == [("off",)]
        connection.rollback()


def test_the_excerpt_of_20_blocks_never_hashes_a_large_map(connection: Connection, texts: int) -> None:
    plan = plan_of_excerpt(connection, 20)
    assert ("Hash Join" if texts == 10_000 else "Index Scan using address_map_pkey") in plan


def test_the_excerpt_of_5000_blocks_hashes_the_map(connection: Connection, texts: int) -> None:
    plan = plan_of_excerpt(connection, 5_000)
    assert "Hash Join" in plan
    assert "Nested Loop" not in plan


def test_a_turn_of_a_batch_looks_at_its_excerpt_and_never_at_the_map(
    connection: Connection, texts: int
) -> None:
    batch = Batch(1, 1, LINK, JOB.name, Range(0, 2_000), 8, 0)
    now = pass_of(batch.range, batch.passes, 0)
    batch_map.ensure(connection, link.LinkWriter(JOB, SCHEMA), batch)
    execute(connection, batch_map.HASH)
    plan = explained(connection, link.statement(batch_map.NAME, JOB, now))
    assert "Hash Join" in plan
    assert "Seq Scan on backfill_batch_map" in plan
    assert "address_map" not in plan


def test_a_session_makes_an_excerpt_once_a_batch(connection: Connection, texts: int) -> None:
    first, second = (
        Batch(number, 1, LINK, JOB.name, Range(0, blocks), 8, 0) for number, blocks in ((1, 20), (2, 10))
    )
    which = sql.SQL("select 'pg_temp.backfill_batch_map'::regclass::oid")
    made = []
    for batch in (first, first, second):
        batch_map.ensure(connection, link.LinkWriter(JOB, SCHEMA), batch)
        made.append(rows(connection, which))
    batch_map.drop(connection)
    connection.rollback()
    assert made[0] == made[1] != made[2]


def test_the_planner_knows_how_many_rows_a_turn_takes(connection: Connection, texts: int) -> None:
    """ "= number" on an expression would be one row in 200, whatever the number of passes."""
    now = pass_of(Range(0, 2_000), 8, 0)
    plan = explained(connection, link.statement(address_map.name(SCHEMA), JOB, now))
    (scan,) = [line for line in plan.splitlines() if "Tid Range Scan" in line]
    rows_expected = int(scan.split("rows=")[1].split()[0])
    in_pass = EVENT_ROWS * 1_000 / 5_000 / 4
    assert in_pass / 3 < rows_expected < in_pass * 3
