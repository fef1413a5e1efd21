"""Preflight of hashes that go into another column: each finding in a table that has it, and none in a plain one."""

from collections.abc import Iterator

import pytest
from psycopg2 import sql
from sqlalchemy import Connection, make_url, text

from backfill.database.connection import execute, make_engine
from backfill.database.preflight import checks
from backfill.plan import Plan
from tests.databases import Databases
from tests.integration.test_preflight_in_place import FINE, TRIGGER, Situation

TYPE = "alter table logins alter hashed type {} using null;"
RAW = "alter table logins alter ip type {} using null;"
SITUATIONS = [
    Situation("a plain table", "select", ()),
    *(Situation(f"hashes in {name}", TYPE.format(name), ()) for name in ("varchar(64)", "char(64)", "citext")),
    *(Situation(f"addresses in {name}", RAW.format(name), ()) for name in ("inet", "citext", "char(45)")),
    Situation("addresses in cidr", RAW.format("cidr"), ("column-type",), subject="public.logins.ip"),
    Situation("a domain over inet", "create domain d as inet;" + RAW.format("d"), ()),
    Situation("no column for hashes", "alter table logins drop hashed", ("no-column",), subject="public.logins.hashed"),
    Situation("too narrow", TYPE.format("varchar(63)"), ("hash-too-short",), subject="public.logins.hashed", says="64 digits"),
    Situation("a domain that is too narrow", "create domain d as char(40);" + TYPE.format("d"), ("hash-too-short",)),
    Situation("an enum", "create type e as enum ('a');" + TYPE.format("e"), ("column-type",), subject="public.logins.hashed"),
    Situation("bytea", TYPE.format("bytea"), ("column-type",)),
    Situation("an array", TYPE.format("text[]"), ("column-type",)),
    Situation("generated", "alter table logins drop hashed; alter table logins add hashed text generated always as (who) stored", ("generated-column",), subject="public.logins.hashed"),
    Situation("generated from the raw column", "alter table logins drop hashed; alter table logins add hashed text generated always as (md5(ip)) stored", ("generated-column", "keeps-column"), version=150_000),  # before, it went along
    Situation("NOT NULL", "alter table logins alter hashed set not null", ("into-not-null",), subject="public.logins.hashed"),
    Situation("a domain that is NOT NULL", "create domain d as text not null;" + TYPE.format("d"), ("into-not-null",)),
    Situation("a default", "alter table logins alter hashed set default ''", ("into-has-default",), subject="public.logins.hashed"),
    Situation("a default of NULL", "alter table logins alter hashed set default null", ()),
    Situation("a foreign key", "create table others (h text primary key); alter table logins add constraint f foreign key (hashed) references others", ("into-in-foreign-key",), subject="public.logins.f"),
    Situation("a CHECK that holds", "alter table logins add constraint c check (length(hashed) = 64)", ()),
    Situation("a CHECK on the form", "alter table logins add constraint c check (hashed ~ '^[0-9a-f]{32}$')", ("refuses-results",), subject="public.logins.c", says="refuses a hash"),
    Situation("upper case", "alter table logins add constraint c check (hashed = upper(hashed))", ("refuses-results",)),
    Situation("a CHECK that calls a function", FINE + "alter table logins add constraint c check (fine(hashed))", ("check-on-written-column",)),
    Situation("either, not both", "insert into logins values (1, 'x', '192.0.2.1'); alter table logins add constraint c check (ip is null or hashed is null)", ("dropped-along", "refuses-results"), subject="public.logins.c"),
    Situation("a domain's CHECK", "create domain d as text check (length(value) < 64);" + TYPE.format("d"), ("refuses-results",)),
    Situation("a generated column of the hash", "alter table logins add short text generated always as (left(hashed, 4)) stored", ("generated-from-raw",)),
    Situation("an index", "create index i on logins (hashed)", ()),
    Situation("a unique key, every address once", "insert into logins values (1, 'x', '192.0.2.1'), (2, 'y', '192.0.2.2'); create unique index u on logins (hashed)", ()),
    Situation("a unique key, one address twice", "insert into logins values (1, 'x', '192.0.2.1'), (2, 'y', '::ffff:192.0.2.1'); create unique index u on logins (hashed)", ("hash-collision",), subject="public.logins.u", says="row 2"),
    Situation("the same, of inet", RAW.format("inet") + "insert into logins values (1, 'x', '192.0.2.1'), (2, 'y', '::ffff:192.0.2.1'); create unique index u on logins (hashed)", ("hash-collision",)),
    Situation("a unique key with another column", "insert into logins values (1, 'x', '192.0.2.1'), (2, 'y', '192.0.2.1'); create unique index u on logins (who, hashed)", ()),
    Situation("a partial one", "create unique index u on logins (hashed) where who = 'x'", ("unique-expression",)),
    Situation("a unique key of raw", "create unique index u on logins (ip)", ("dropped-along",)),
    Situation("a trigger", TRIGGER.format("before update", "for each row"), ("before-trigger",)),
    Situation("a place", "alter table logins add place jsonb not null default '{}'", (), {"geo": "place"}),
    Situation("a place as text", "alter table logins add place text", ("column-type",), {"geo": "place"}, "public.logins.place"),
    Situation("a place as a domain with a CHECK", "create domain d as jsonb check (value ? 'city'); alter table logins add place d", ("domain-check",), {"geo": "place"}, "public.logins.place"),
    Situation("a place in a unique key", "alter table logins add place jsonb; create unique index u on logins (place)", ("geo-in-unique-key",), {"geo": "place"}),
    Situation("a place in a CHECK", "alter table logins add place jsonb check (place ? 'city')", ("check-on-written-column",), {"geo": "place"}),
    Situation("a view of the raw column", "create view v as select ip from logins", ("keeps-column",)),
]  # fmt: skip


def run(connection: Connection, statements: str) -> None:
    execute(connection, sql.SQL(statements)).close()


@pytest.fixture(scope="module")
def connection(databases: Databases) -> Iterator[Connection]:
    """A session on a database with one table, of which every test takes back what it changed."""
    url = databases.create()
    engine = make_engine(make_url(url), ledger_schema="backfill")
    with engine.connect() as connection:
        run(
            connection,
            "create extension citext schema public;"
            "create table public.logins (id int primary key, who text, ip text, hashed text)",
        )
        connection.commit()
        connection.execute(text("select 1"))
        yield connection
        connection.rollback()
    engine.dispose()
    databases.drop(url)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_a_situation_is_found_and_nothing_else(connection: Connection, situation: Situation) -> None:
    job = {"table": "logins", "raw": "ip", "becomes": "hash", "into": "hashed", **situation.job}
    plan = Plan.model_validate({"name": "logins", "jobs": [job]})
    number = connection.connection.driver_connection.server_version
    if number < situation.version:
        pytest.skip(f"the server is {number}")
    try:
        run(connection, "set local search_path = public")
        run(connection, situation.change)
        run(connection, "set local search_path = pg_catalog, pg_temp")  # as our sessions have it
        report = checks.inspect(connection, plan, plan.parts, "backfill", situation.purpose)
        found = [*report.blocking, *report.unaccepted, *report.notes]
        assert sorted(one.code for one in found) == sorted(situation.codes), found
        assert not situation.subject or situation.subject in [one.subject for one in found], found
        assert not situation.says or any(situation.says in one.text for one in found), found
        assert all(one.problem.endswith((".", ";", ")")) and "  " not in one.text for one in found), found
    finally:
        connection.rollback()
