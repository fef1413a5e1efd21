"""Indexed columns that the link names without changing them: which, at what gain, and unseen by triggers."""

import json
from collections.abc import Iterator

import pytest
from psycopg2 import sql
from sqlalchemy import Connection, make_url

from backfill.database.blocks import Range, heap_of
from backfill.database.connection import execute, make_engine, value
from backfill.database.writing import writes
from backfill.jobs import index_hint, link
from backfill.jobs.passes import pass_of
from backfill.ledger import address_map
from backfill.plan import Addresses, LinkJob

JOB = LinkJob(table="event", time=None)
SCHEMA = "public"
EVENT_ROWS = 60_000

MAKE = sql.SQL("""
    create table public.ip_addresses (id uuid primary key);
    insert into public.ip_addresses values ('00000000-0000-0000-0000-000000000000');
    create table public.event (
        id uuid primary key default gen_random_uuid(),
        source int,
        shared int,
        watched int,
        twice int generated always as (source / 2) stored,
        number int generated always as identity,
        plain int,
        ip_address_string text,
        additional jsonb,
        ip_address_id uuid references public.ip_addresses
    ) with (autovacuum_enabled = off);
    insert into public.event (source, shared, watched, plain, ip_address_string, additional)
    select hashint4(n), n, n, n, '192.0.2.1', '{"a": "some words"}' from generate_series(1, %s) as n;
    create index on public.event (source);
    create index on public.event (twice);
    create index on public.event (number);
    create index on public.event (shared);
    create unique index on public.event (shared, id);
    create index on public.event (watched);
    create index on public.event (ip_address_id);
    create index on public.event (upper(ip_address_string));
    create table public.fired (name text);
    create function public.fire() returns trigger language plpgsql as
        $$ begin insert into public.fired values (tg_name); return new; end $$;
    create trigger watches before update of watched on public.event execute function public.fire();
    create trigger each_update after update on public.event execute function public.fire();
    analyze public.event
""")

PLAIN = sql.SQL("""
    drop table public.event;
    create table public.event (source uuid, ip_address_string text, additional jsonb, ip_address_id uuid)
        with (autovacuum_enabled = off);
    insert into public.event select md5((hashint4(n) %% 3000)::text)::uuid, '192.0.2.1', '{"a": "some words"}' from generate_series(1, %s) as n;
    create index on public.event (source);
    analyze public.event
""")


@pytest.fixture
def connection(databases) -> Iterator[Connection]:
    """An event table with an index of every kind that matters, and a map that knows its one text."""
    engine = make_engine(make_url(databases.create()), ledger_schema=SCHEMA)
    with engine.connect() as open_connection:
        execute(open_connection, MAKE, (EVENT_ROWS,))
        address_map.create(open_connection, SCHEMA, Addresses(table="ip_addresses"))
        execute(
            open_connection,
            sql.SQL("""
                insert into public.address_map values
                    ('192.0.2.1', '00000000-0000-0000-0000-000000000000', '{"geoip_info": {"city": "A"}}');
                analyze public.address_map
            """),
        )
        open_connection.commit()
        yield open_connection
        open_connection.rollback()
    engine.dispose()


def updates(connection: Connection, part: Range, unchanged: list[str]) -> int:
    """Link that part as a run does; returns the pages that the statement asked for."""
    statement = link.statement(address_map.name(SCHEMA), JOB, pass_of(part, 1, 0), unchanged)
    with writes(connection, JOB):
        plan = value(connection, sql.SQL("explain (analyze, buffers, format json) ") + statement)
    connection.commit()
    found = (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]
    return found["Shared Hit Blocks"] + found["Shared Read Blocks"]


def test_plain_columns_of_plain_indexes_are_named(connection: Connection) -> None:
    assert index_hint.unchanged(connection, JOB) == ["source"]


def test_columns_that_we_may_not_update_are_not_named(connection: Connection) -> None:
    execute(
        connection,
        sql.SQL("""
            create role limited;
            grant select on public.event to limited;
            grant update (ip_address_id, additional) on public.event to limited;
            set local role limited
        """),
    )
    assert index_hint.unchanged(connection, JOB) == []
    connection.rollback()


def test_values_stay_and_triggers_on_columns_do_not_fire(connection: Connection) -> None:
    everything = sql.SQL("select md5(string_agg(e::text, ',' order by id)) from ({}) as e").format(
        sql.SQL(
            "select id, source, shared, watched, twice, number, plain, ip_address_string from public.event"
        )
    )
    before = value(connection, everything)
    updates(connection, Range(0, heap_of(connection, JOB).blocks), index_hint.unchanged(connection, JOB))
    assert value(connection, everything) == before
    assert value(connection, sql.SQL("select count(*) from public.event where ip_address_id is null")) == 0
    assert (
        value(connection, sql.SQL("select string_agg(distinct name, ',') from public.fired")) == "each_update"
    )


def test_naming_them_spares_looks_into_the_heap(connection: Connection) -> None:
    """Nobody else is there, and the figures are the same each time: 302,776 pages, and 305,309 without."""
    if connection.dialect.server_version_info < (15,):  # type: ignore[operator]
        pytest.skip("PostgreSQL 14 looks as often either way: 305,309 pages")
    asked = {}
    for naming in (False, True):
        execute(connection, PLAIN, (EVENT_ROWS,))
        connection.commit()
        unchanged = index_hint.unchanged(connection, JOB) if naming else []
        blocks = heap_of(connection, JOB).blocks
        parts = [Range(blocks * n // 40, blocks * (n + 1) // 40) for n in range(40)]
        asked[naming] = sum(updates(connection, part, unchanged) for part in parts)
    assert asked[True] < asked[False]
