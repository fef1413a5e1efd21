"""Strong locks beside an autovacuum: it gives way, and whoever reads and writes does not wait for it."""

import time
from collections.abc import Iterator

import psycopg2.errors
import pytest
from psycopg2 import sql
from sqlalchemy import Connection, Engine, make_url

from backfill.database.connection import execute, make_engine, value
from backfill.database.lock_retry import patiently, send_vacuum_away, with_referenced
from backfill.embedded import EmbeddedServer
from backfill.raw_column import Table
from tests.conftest import temporary_home
from tests.databases import Databases, query

LOCK_MS = 200  # an autovacuum gives way after a second of waiting, at the earliest
AUTOVACUUM = """
    select count(*) from pg_stat_activity
     where backend_type = 'autovacuum worker' and query like 'autovacuum: VACUUM%public.busy%'
"""

HELD = "select pid from pg_locks where relation = 'busy'::regclass and mode = 'ShareUpdateExclusiveLock' and granted"


@pytest.fixture(scope="module")
def server() -> Iterator[Databases]:
    """One of our own: its autovacuum looks around every second."""
    with temporary_home() as home:
        databases = Databases(EmbeddedServer(home).ensure())
        query(databases.server_url, "alter system set autovacuum_naptime = '1s'")
        query(databases.server_url, "select pg_reload_conf()")
        yield databases


@pytest.fixture
def engine(server: Databases) -> Iterator[Engine]:
    """A table that an autovacuum is at work on, for minutes."""
    url = server.create()
    query(
        url,
        """create table busy (n int) with (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
               autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)""",
    )
    query(url, "insert into busy select generate_series(1, 200000)")
    query(url, "delete from busy where n % 3 = 0")
    until_vacuumed = time.monotonic() + 60
    while query(url, AUTOVACUUM) != [(1,)]:
        assert time.monotonic() < until_vacuumed, "no autovacuum came"
        time.sleep(0.1)
    found = make_engine(make_url(url), ledger_schema="public")
    yield found
    found.dispose()
    server.drop(url)  # and its autovacuum with it: there are three workers


def add_column(connection: Connection) -> None:
    execute(connection, sql.SQL("alter table public.busy add column more int"))


def test_an_autovacuum_is_sent_away_which_would_not_give_way_to_short_waits(engine: Engine) -> None:
    with pytest.raises(psycopg2.errors.LockNotAvailable):
        patiently(engine, LOCK_MS, add_column, attempts=3)
    patiently(engine, LOCK_MS, add_column, [sql.SQL("public.busy")], attempts=1)


def test_writers_go_on_meanwhile_and_no_autovacuum_comes_back(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    with engine.begin() as connection:
        usual = value(connection, sql.SQL("show lock_timeout"))
        send_vacuum_away(connection, [sql.SQL("public.busy")])
        assert value(connection, sql.SQL("show lock_timeout")) == usual
        query(url, "set lock_timeout = 100; update busy set n = n where n = 1")
        time.sleep(2.5)  # two of its rounds
        assert query(url, HELD) == [(value(connection, sql.SQL("select pg_backend_pid()")),)]


def test_a_vacuum_that_somebody_typed_and_a_table_of_somebody_else_are_no_trouble(engine: Engine) -> None:
    with engine.begin() as holding, engine.begin() as connection:
        send_vacuum_away(holding, [sql.SQL("public.busy")])
        send_vacuum_away(connection, [sql.SQL("public.busy")])  # not given, and the transaction goes on
        execute(connection, sql.SQL("create role nobody_much; grant usage on schema public to nobody_much"))
        execute(connection, sql.SQL("set local role nobody_much"))
        send_vacuum_away(connection, [sql.SQL("public.busy")])
        connection.rollback()


def test_tables_that_foreign_keys_point_at_are_locked_as_well(server: Databases) -> None:
    url = server.create()
    query(url, 'create table "One" (id int primary key)')
    query(url, 'create table pointing (one int references "One", other int references "One")')
    engine = make_engine(make_url(url), ledger_schema="public")
    found = with_referenced(engine, Table(table="pointing"))
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert [one.as_string(driver) for one in found] == ['"public"."pointing"', 'public."One"']
    engine.dispose()
