"""A table that is changed while a run is at work: each batch sees it under its lock."""

import time
import timeit

import pytest
from psycopg2 import sql

from backfill.database.connection import execute, value
from backfill.database.definition import DEFINITION
from tests.databases import query
from tests.integration.test_preflight import FUNCTION, connection  # noqa: F401 -- a fixture
from tests.operator import Operator, ended

E = "public.user_events"
TRIGGER = f"{FUNCTION} create trigger t before update on {E} for each row execute function touch()"
SEEN = [
    ("", TRIGGER),
    (TRIGGER, f"alter table {E} disable trigger t"),
    (TRIGGER, "create or replace function touch() returns trigger language plpgsql as $$ begin return null; end $$"),
    (TRIGGER, "alter function touch() set search_path = ''"),
    ("", f"create rule r as on update to {E} do also notify x"),
    ("", f"alter table {E} add constraint c check (tag <> 'x') not valid"),
    (f"alter table {E} add constraint c check (tag <> 'x') not valid", f"alter table {E} validate constraint c"),
    ("", f"alter table {E} enable row level security"),
    (f"alter table {E} enable row level security", f"create policy p on {E}"),
    ("", f"alter table {E} add column seen int not null default 0"),
    ("", f"alter table {E} alter column tag type text"),
    ("", f"create unique index u on {E} (ip_address_id, id)"),
    ("", f"alter table {E} replica identity full"),
    ("", f"create publication p for table {E}"),
    ("", "create publication p for all tables"),
    ("", f"create table public.child () inherits ({E})"),
]  # fmt: skip
UNSEEN = [
    f"create index i on {E} (tag)",
    f"comment on table {E} is 'x'",
    f"analyze {E}",
    f"alter table {E} alter column tag set statistics 10",
]


def definition(connection) -> str:  # noqa: F811
    oid = value(connection, sql.SQL("select %s::regclass::oid"), (E,))
    return value(connection, sql.SQL("select {}").format(DEFINITION.format(table=sql.Literal(oid))))


def changed(connection, before: str, change: str) -> bool:  # noqa: F811
    try:
        execute(connection, sql.SQL("set local search_path = public"))
        if before:
            execute(connection, sql.SQL(before))
        first = definition(connection)
        execute(connection, sql.SQL(change))
        return definition(connection) != first
    finally:
        connection.rollback()


@pytest.mark.parametrize(("before", "change"), SEEN, ids=[change[:60] for _, change in SEEN])
def test_a_change_that_matters_is_seen(connection, before: str, change: str) -> None:  # noqa: F811
    assert changed(connection, before, change)


@pytest.mark.parametrize("change", UNSEEN)
def test_one_that_does_not_is_none(connection, change: str) -> None:  # noqa: F811
    assert not changed(connection, "", change)


def test_it_costs_less_than_a_millisecond(connection) -> None:  # noqa: F811
    definition(connection)
    # The quickest of ten rounds: whatever else the machine does is in the others.
    quickest = min(timeit.repeat(lambda: definition(connection), number=5, repeat=10)) / 5
    connection.rollback()
    assert quickest / 2 < 0.001 * 3  # two statements each; a slow machine may take three times as long


SLOW = f"""
    create sequence public.pace;
    create function public.slow() returns trigger language plpgsql set search_path = '' as
        $$ begin if nextval('public.pace') < 600 then perform pg_sleep(0.02); end if; return new; end $$;
    create trigger slow before update on {E} for each row execute function public.slow();
"""
WORDS = ("--quiet", "--no-sample", "--batch-blocks", 2, "--accept", "before-trigger:public.user_events.slow")
LINKING = "select count(*) from backfill.batches where phase = 'link' and job like 'public.user_events.%' and passes_done > 0"


@pytest.mark.parametrize(
    ("change", "undo", "said"),
    [
        (f"alter table {E} add constraint c check (tag = 'none') not valid", f"alter table {E} drop constraint c", "CHECK c of user_events is not valid, and"),
        (f"create rule r as on update to {E} do also notify x", f"drop rule r on {E}", "Rule r of user_events rewrites"),
    ],
)  # fmt: skip
def test_a_run_stops_at_a_change_that_is_in_the_way_and_goes_on_without_it(
    fresh_demo: Operator, change: str, undo: str, said: str
) -> None:
    query(fresh_demo.url, SLOW)
    with ended(fresh_demo.starts("run", *WORDS)) as process:
        _wait(fresh_demo)
        query(fresh_demo.url, change)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "user_events was changed while the run was at work." in err
    assert said in err
    query(fresh_demo.url, undo + f"; drop trigger slow on {E}")
    fresh_demo.types("run", "--quiet")
    assert query(fresh_demo.url, "select status, attempts from backfill.runs") == [("succeeded", 2)]


def test_a_change_that_is_not_in_the_way_is_said_and_the_run_goes_on(fresh_demo: Operator) -> None:
    query(fresh_demo.url, SLOW)
    with ended(fresh_demo.starts("run", *WORDS)) as process:
        _wait(fresh_demo)
        query(fresh_demo.url, f"alter table {E} add column seen int not null default 0")
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("user_events was changed meanwhile; preflight found nothing in the way: going on.") == 1


def _wait(operator: Operator) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        exists = query(operator.url, "select to_regclass('backfill.batches') is not null")[0][0]
        if exists and query(operator.url, LINKING)[0][0]:
            return
        time.sleep(0.05)
    raise AssertionError("nothing was linked in a minute")
