"""A raw column that takes no NULL: nothing is offered or done that would need one, and nothing half done is on record."""

from collections.abc import Callable
from pathlib import Path

import psycopg2.errors
import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.plan import Discard
from backfill.verify import settle as settling
from tests.databases import Databases, query
from tests.operator import Operator
from tests.several import job, plan_of, several, with_plan

OBSTACLES = {
    "NOT NULL": "alter table users alter column ip set not null",
    "a domain that is NOT NULL": "create domain public.address as text not null; alter table users alter column ip type public.address",
    "a domain with a CHECK": "create domain public.address as text check (value is not null);"
    " alter table users alter column ip type public.address",
    "a domain over such a domain": "create domain public.inner_ as text not null; create domain public.address as public.inner_;"
    " alter table users alter column ip type public.address",
    "constraint present": "alter table users add constraint present check (ip is not null)",
    "constraint not_empty": "alter table users add constraint not_empty check (coalesce(ip, '') <> '')",
    "constraint either": "alter table users add constraint either check (ip is not null or ip_id is not null)",
    "the primary key": "alter table users drop constraint users_pkey, add primary key (id, ip); create unique index on users (id)",
    "allows one NULL": "create unique index one_null on users (ip) nulls not distinct where id > 1000",
}


PARTS = (job("users"), Discard(table="users", column="old"))


@pytest.fixture
def operator(databases: Databases, clone: Callable[[str], str], home: Path, tmp_path: Path) -> Operator:
    """Its table has no NULL yet, and a row that waits for a decision."""

    def fill(url: str) -> None:
        filled = several(url, home, tmp_path, *PARTS)
        query(url, "delete from users where ip is null")
        query(url, "insert into users (ip) values ('no address')")
        filled.types("run", "--quiet")

    return with_plan(clone(databases.template("a column without NULL", fill)), home, tmp_path, *PARTS)


# One of the column, the domain, a constraint, a key and an index; the others are spelled otherwise.
QUICK = {
    "NOT NULL",
    "a domain over such a domain",
    "allows one NULL",
}


@pytest.mark.parametrize(
    "what", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in OBSTACLES]
)
def test_what_needs_a_null_is_neither_offered_nor_done(operator: Operator, what: str) -> None:
    url = operator.url
    if "nulls not distinct" in OBSTACLES[what] and query(url, "show server_version_num") < [("15",)]:
        pytest.skip("PostgreSQL 15 brought NULLS NOT DISTINCT")
    for statement in OBSTACLES[what].split(";"):
        query(url, statement)
    before = query(url, "select * from users order by id")
    said = operator.types("seal", "users.ip", expect=2)
    assert "users.ip cannot be NULL: " in said.err
    assert what.removeprefix("a ").split()[0] in said.err
    assert query(url, "select count(*) from pg_trigger where tgname like 'zy_backfill%'") == [(0,)]
    said = operator.types("quarantine", "settle", "users.ip", "--as", "discard", "--count", 1, expect=2)
    assert "cannot be NULL" in said.err
    assert "`backfill quarantine settle users.ip --as sentinel --count 1`" in said.err
    assert query(url, "select count(*) from backfill.decisions") == [(0,)]
    assert query(url, "select * from users order by id") == before
    query(url, "insert into users (ip) values ('8.8.8.8')")
    for words in (("quarantine", "list"), ("verify",), ("gates",)):
        offered = operator.types(*words, expect=None).out
        assert "discard --count" not in offered
        assert "seal users.ip" not in offered
    operator.types("run", "--quiet")
    operator.types("quarantine", "settle", "users.ip", "--as", "sentinel", "--count", 1)
    operator.types("verify")


@pytest.mark.parametrize(
    "statement",
    [
        "select 1",
        "alter table users add constraint short check (length(ip) < 50)",
        "alter table users add constraint both_ check (ip is null or id > 0)",
        "create domain public.address as text check (length(value) < 50); alter table users alter column ip type public.address",
        "create unique index on users (ip, id)",
    ],
)
def test_what_lets_a_null_pass_is_no_obstacle(operator: Operator, statement: str) -> None:
    for one in statement.split(";"):
        query(operator.url, one)
    assert "--as sentinel --count 1` (or `--as discard`)" in operator.types("quarantine", "list").out
    assert "backfill seal users.ip" in operator.types("gates", expect=None).out
    operator.types("quarantine", "settle", "users.ip", "--as", "discard", "--count", 1)
    assert query(operator.url, "select job, count from backfill.decisions") == [("public.users.ip", 1)]
    operator.types("seal", "users.ip")
    query(operator.url, "insert into users (ip) values ('8.8.8.8')")
    assert query(operator.url, "select ip from users order by id desc limit 1") == [(None,)]


def test_a_generated_column_cannot_be_sealed(operator: Operator) -> None:
    query(operator.url, "alter table users drop column old")
    query(operator.url, "alter table users add column old text generated always as ('ip ' || ip) stored")
    assert (
        "users.old cannot be NULL: it is a generated column"
        in operator.types("seal", "users.old", expect=2).err
    )
    query(operator.url, "insert into users (ip) values ('8.8.8.8')")


def test_a_check_that_calls_functions_is_not_tried_and_not_trusted(operator: Operator) -> None:
    query(
        operator.url,
        "create function public.fine(text) returns boolean language sql as 'select $1 is not null'",
    )
    query(operator.url, "alter table users add constraint asks check (public.fine(ip))")
    assert (
        "constraint asks does not allow NULL, as far as can be told"
        in operator.types("seal", "users.ip", expect=2).err
    )
    query(operator.url, "insert into users (ip) values ('8.8.8.8')")


def test_a_decision_is_not_on_record_without_its_effect(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no catalog tells (a trigger of the application) fails the transaction, and the decision with it."""
    url = operator.url
    query(url, "insert into users (ip) select 'none ' || n from generate_series(1, 4) as n")
    operator.types("run", "--quiet")
    query(
        url,
        """create function public.refuse() returns trigger language plpgsql as $$ begin
             if old.ip = 'none 3' then raise exception 'no'; end if; return new; end $$""",
    )
    query(url, "create trigger refuse before update on users for each row execute function public.refuse()")
    monkeypatch.setattr(settling, "CHUNK", 1)
    with pytest.raises(psycopg2.errors.RaiseException):
        settle_directly(operator, 5)
    waiting = len(operator.waiting("users.ip"))
    decided = query(
        url, "select count(*), coalesce(sum(count), 0) from backfill.decisions where kind = 'settle'"
    )
    assert decided == [(1, 5 - waiting)]
    assert query(url, "select count(*) from users where ip like 'n%'") == [(waiting,)]
    monkeypatch.setattr(settling, "CHUNK", 1_000)
    with pytest.raises(psycopg2.errors.RaiseException):
        settle_directly(operator, waiting)
    assert query(url, "select count(*) from backfill.decisions where kind = 'settle'") == [(1,)]


def settle_directly(operator: Operator, count: int) -> None:
    engine = make_engine(make_url(operator.url), ledger_schema="backfill")
    try:
        plan = plan_of(operator)
        settling.settle(engine, "backfill", plan.addresses, plan.jobs[0], settling.Fate.DISCARD, count, None)
    finally:
        engine.dispose()
