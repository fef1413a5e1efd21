"""A pass over a few blocks never hashes the whole map; a pass over many never probes it row by row."""

from collections.abc import Iterator

import pytest
from psycopg2 import sql
from sqlalchemy import Connection, make_url

from backfill.database.engine import execute, make_engine, rows
from backfill.database.heap import Range
from backfill.jobs import link
from backfill.jobs.turn import turn
from backfill.ledger import address_map
from backfill.plan import Addresses, Job

JOB = Job(table="event", time=None)
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
                create table ip_addresses (id uuid primary key);
                create table event (id int, ip_address_string text, additional jsonb, ip_address_id uuid);
                insert into event select n, '10.' || n %% 200 || '.' || n %% 251 || '.' || n %% 241, '{"a": "some words"}'
                  from generate_series(1, %s) as n;
                analyze event
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
            truncate address_map;
            insert into address_map
            select n::text, '00000000-0000-0000-0000-000000000000', '{"geoip_info": {"city": "A"}}'
              from generate_series(1, %s) as n;
            analyze address_map
        """),
        (request.param,),
    )
    connection.commit()
    return request.param


def plan_of(connection: Connection, blocks: int, passes: int) -> str:
    now = turn(Range(0, blocks), passes, 0)
    link.choose_join(connection, SCHEMA, JOB, now)
    found = rows(connection, sql.SQL("explain ") + link.statement(SCHEMA, JOB, now))
    connection.rollback()
    return "\n".join(line for (line,) in found)


@pytest.mark.parametrize("passes", [1, 8])
def test_a_batch_of_20_blocks_probes_the_map(connection: Connection, texts: int, passes: int) -> None:
    plan = plan_of(connection, 20, passes)
    if texts > link.PROBES_PER_ROW * 20 * 80 / passes:
        assert "Nested Loop" in plan
        assert "Index Scan using address_map_pkey" in plan
        assert "Hash" not in plan
    assert "Tid Range Scan" in plan


def test_a_pass_over_5000_blocks_hashes_the_map(connection: Connection, texts: int) -> None:
    plan = plan_of(connection, 5_000, 1)
    assert "Hash Join" in plan
    assert "Nested Loop" not in plan


def test_an_eighth_of_5000_blocks_hashes_a_small_map_and_probes_a_large_one(
    connection: Connection, texts: int
) -> None:
    plan = plan_of(connection, 5_000, 8)
    assert ("Hash Join" if texts == 10_000 else "Nested Loop") in plan


def test_the_planner_knows_how_many_rows_a_pass_takes(connection: Connection, texts: int) -> None:
    """ "= number" on an expression would be one row in 200, whatever the number of passes."""
    plan = plan_of(connection, 2_000, 8)
    (scan,) = [line for line in plan.splitlines() if "Tid Range Scan" in line]
    rows_expected = int(scan.split("rows=")[1].split()[0])
    assert EVENT_ROWS * 2_000 / 5_000 / 8 / 3 < rows_expected < EVENT_ROWS * 2_000 / 5_000 / 8 * 3
