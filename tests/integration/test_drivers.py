"""Gates in the chain of an application with its own driver, session settings and way to run revisions."""

import threading
import uuid
from contextlib import closing
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace

import pytest
from alembic.util import CommandError
from sqlalchemy import Connection, text

from backfill.database import lock_retry
from backfill.gates import GateClosed
from tests.databases import connect, query
from tests.integration.test_gates import psql
from tests.integration.test_other_chain import ENV, chain, upgrade, version
from tests.names import constraint, guard
from tests.operator import Operator

__all__ = ["chain"]  # a fixture

SYNC = """
import os
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool
from alembic import context

SETTINGS = {settings!r}
url = make_url(os.environ["BACKFILL_DATABASE_URL"]).set(drivername="postgresql+{driver}")
with create_engine(url, poolclass=NullPool).connect() as connection:
    for statement in SETTINGS:
        connection.execute(text(statement))
    {between}
    context.configure(connection=connection, version_table_schema="public", {own})
    with context.begin_transaction():
        context.run_migrations()
    {after}
"""
ASYNC = """
import asyncio
import os
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from alembic import context

SETTINGS = {settings!r}

def run(connection):
    context.configure(connection=connection, version_table_schema="public", {own})
    with context.begin_transaction():
        context.run_migrations()

async def main():
    url = make_url(os.environ["BACKFILL_DATABASE_URL"])
    there = dict(url.query)
    if "host" in there:  # a socket: asyncpg takes it as an argument
        url = url.set(query={{}})
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"), poolclass=NullPool, connect_args={{"host": there["host"]}} if "host" in there else {{}}
    )
    async with engine.connect() as connection:
        for statement in SETTINGS:
            await connection.execute(text(statement))
        await connection.commit()
        await connection.run_sync(run)
    await engine.dispose()

asyncio.run(main())
"""
# What an application may have set for itself; none of it may change what a gate says or does.
HOSTILE = [
    "set search_path = ''",
    "set timezone = 'Asia/Kathmandu'",
    "set datestyle = 'SQL, DMY'",
    "set intervalstyle = 'sql_standard'",
    "set statement_timeout = '1h'",
    "set lock_timeout = '7s'",
    "set standard_conforming_strings = off",
    "set transform_null_equals = on",
    "set row_security = on",
]


def env(
    chain: Path,
    driver: str,
    settings: list[str] = HOSTILE,
    *,
    own: str = "transaction_per_migration=True",
    between: str = "connection.commit()",
    after: str = "pass",
) -> None:
    template = ASYNC if driver == "asyncpg" else SYNC
    online = template.format(driver=driver, settings=settings, own=own, between=between, after=after)
    script = ENV.partition("else:\n")[0]
    (chain / "env.py").write_text(script + "else:\n" + indent(online, "    "))


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg"])
def test_the_example_goes_its_whole_way_through_the_applications_driver_and_settings(
    proved_run: Operator, chain: Path, driver: str
) -> None:
    env(chain, driver)
    with pytest.raises(CommandError, match="restore point: none was named"):
        upgrade(proved_run, chain, "head")
    assert version(proved_run) == "f00000000002"
    upgrade(proved_run, chain, "d0a1b2c3e4f5", down=True)
    named = proved_run.having(restore_point=r"100%: C:\nightly's :name")
    upgrade(named, chain, "head")
    assert version(named) == "f00000000003"
    assert query(named.url, "select detail ->> 'restore point' from backfill.decisions where kind = 'drop'") == [(r"100%: C:\nightly's :name",)]  # fmt: skip
    query(
        named.url,
        "insert into user_events (source_id, tag) select source_id, 'after' from user_events limit 1",
    )
    upgrade(named, chain, "f00000000002", down=True)
    assert version(named) == "f00000000002"


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg"])
def test_a_busy_table_is_waited_for_through_the_applications_driver_and_who_is_in_the_way_is_named(
    proved_run: Operator, chain: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env(chain, driver)
    with closing(connect(proved_run.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("set application_name = 'a report'; lock table user_events in access share mode")
        monkeypatch.setattr(lock_retry, "time", SimpleNamespace(sleep=lambda _seconds: other.rollback()))
        said = upgrade(proved_run.having(lock_timeout_ms="50"), chain, "f00000000001", aloud=True)
        holder = other.info.backend_pid
    busy = [line for line in said.splitlines() if "is busy" in line]
    assert len(busy) == 1
    assert f"user_events is busy; trying again (1 of 20). In the way: session {holder} (a report, " in busy[0]
    assert version(proved_run) == "f00000000001"


def revision(chain: Path, number: int, body: str, *, after: str = "d0a1b2c3e4f5") -> str:
    """A revision of the application whose upgrade is *body*; its id."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    name = f"b0000000000{number}"
    (chain / "versions" / f"own{number}.py").write_text(
        "from alembic import op\nfrom sqlalchemy import text\nfrom backfill import gates\n"
        f"from tests.integration.test_drivers import settings_of\n"
        f'revision = "{name}"\ndown_revision = "{after}"\ndef upgrade():\n{lines}\ndef downgrade(): pass\n'
    )
    return name


def settings_of(connection: Connection) -> dict[str, str]:
    """What every later revision of this transaction would meet."""
    connection.execute(text("load 'plpgsql'"))  # brings settings of its own
    found = connection.execute(text("select name, setting from pg_catalog.pg_settings")).all()
    return {name: setting for name, setting in found if name not in {"in_hot_standby", "log_statement"}}


def only(chain: Path) -> None:
    """Leave nothing of the example."""
    for name in ("guard", "validate", "drop"):
        (chain / "versions" / f"{name}.py").unlink()


@pytest.mark.parametrize("driver", ["psycopg2", pytest.param("psycopg", marks=pytest.mark.slow), "asyncpg"])
def test_the_applications_settings_are_back_after_each_gate_and_after_a_refusal(
    proved_run: Operator, chain: Path, driver: str
) -> None:
    only(chain)
    env(chain, driver)
    last = "d0a1b2c3e4f5"
    calls = ("guard_links('user_events')", "validate_links('user_events')", "drop_raw_column('user_events')")
    for number, call in enumerate(calls):
        body = (
            f"before = settings_of(op.get_bind())\ngates.{call}\nassert settings_of(op.get_bind()) == before"
        )
        last = revision(chain, number, body, after=last)
    refused = """
before = settings_of(op.get_bind())
try:
    gates.drop_raw_column('team_events')
except gates.GateClosed:
    pass
else:
    raise AssertionError
assert settings_of(op.get_bind()) == before
assert before["TimeZone"] == "Asia/Kathmandu"
"""
    last = revision(chain, 3, refused, after=last)
    named = proved_run.having(restore_point="nightly")
    upgrade(named, chain, "head")
    assert version(named) == last


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_discarded_column_is_dropped_through_the_applications_driver(
    proved_run: Operator, chain: Path, driver: str
) -> None:
    """It is looked for in the catalog first; once it is gone, whether it was renamed."""
    only(chain)
    env(chain, driver)
    last = "d0a1b2c3e4f5"
    for number in range(2):
        last = revision(chain, number, "gates.drop_discarded_column('journals')", after=last)
    named = proved_run.having(restore_point="nightly")
    upgrade(named, chain, "head")
    assert version(named) == last
    gone = "select count(*) from pg_attribute where attname = 'submitted_from' and attrelid = 'journals'::regclass"
    assert query(named.url, gone) == [(0,)]


ENOUGH = "context.configure(…, transaction_per_migration=True)"
SHARED = [
    (
        "transaction_per_migration=False",
        "connection.commit()",
        "all pending revisions run in one transaction",
    ),
    ("transaction_per_migration=True", "pass", "a transaction was open before the first revision began"),
]


@pytest.mark.parametrize(("own", "between", "why"), SHARED)
def test_guard_and_validate_refuse_a_transaction_that_others_share(
    proved_run: Operator, chain: Path, own: str, between: str, why: str
) -> None:
    env(chain, "psycopg2")
    upgrade(proved_run, chain, "d0a1b2c3e4f5")
    for at in ("f00000000001", "f00000000002"):
        env(chain, "psycopg2", own=own, between=between, after="connection.commit()")
        with pytest.raises(CommandError, match=why) as refusal:
            upgrade(proved_run, chain, at)
        assert ENOUGH in str(refusal.value)
        env(chain, "psycopg2")
        upgrade(proved_run, chain, at)
    env(chain, "psycopg2", own=own, between=between, after="connection.commit()")
    said = upgrade(proved_run.having(restore_point="nightly"), chain, "head", aloud=True)
    assert f"drop_raw_column: {why}" in said
    assert "stays locked (ACCESS EXCLUSIVE: no reader, no writer)" in said
    assert version(proved_run) == "f00000000003"


def test_a_script_in_one_transaction_is_not_written(proved_run: Operator, chain: Path) -> None:
    text_ = (chain / "env.py").read_text()
    (chain / "env.py").write_text(
        text_.replace("transaction_per_migration=True", "transaction_per_migration=False")
    )
    with pytest.raises(CommandError, match="all pending revisions run in one transaction"):
        upgrade(proved_run.having(restore_point="nightly"), chain, "d0a1b2c3e4f5:head", sql=True)


@pytest.mark.parametrize(
    ("body", "table"),
    [
        ("gates.drop_discarded_column('journals')\ngates.require_coverage('user_events')", "public.journals"),
        ("op.execute('create index odd on public.users (date_joined)')\ngates.require_coverage('user_events')", "public.users"),
        ("op.execute('alter table public.users add column odd int')\ngates.guard_links('user_events')", "public.users"),
    ],
)  # fmt: skip
def test_no_rows_are_read_under_a_lock_that_the_revision_took_before(
    proved_run: Operator, chain: Path, body: str, table: str
) -> None:
    only(chain)
    env(chain, "psycopg2")
    revision(chain, 0, body)
    with pytest.raises(CommandError, match=f"holds a lock of {table} already"):
        upgrade(proved_run.having(restore_point="nightly"), chain, "head")
    assert version(proved_run) == "d0a1b2c3e4f5"


@pytest.mark.parametrize(
    "driver", ["psycopg2", *(pytest.param(one, marks=pytest.mark.slow) for one in ("psycopg", "asyncpg"))]
)
def test_outside_a_transaction_a_gate_refuses(proved_run: Operator, chain: Path, driver: str) -> None:
    only(chain)
    env(chain, driver)
    revision(chain, 0, "with op.get_context().autocommit_block():\n    gates.guard_links('user_events')")
    with pytest.raises(CommandError, match="runs outside a transaction"):
        upgrade(proved_run, chain, "head")
    assert query(proved_run.url, "select count(*) from pg_trigger where tgname like 'zz%%'") == [(0,)]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("drop schema backfill cascade", r"ledger: there is none in schema backfill .*`backfill run`, then `backfill verify`"),
        ("drop table backfill.seals", "version of the ledger: table seals has not the columns"),
        ("alter table backfill.coverage drop column digest", "version of the ledger: table coverage"),
        ("alter table backfill.decisions add column odd int not null default 1", "version of the ledger: table decisions"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("driver", ["psycopg2", pytest.param("asyncpg", marks=pytest.mark.slow)])
def test_a_ledger_that_is_missing_or_of_another_version_is_a_refusal(
    proved_run: Operator, chain: Path, damage: str, said: str, driver: str
) -> None:
    env(chain, driver)
    script = upgrade(proved_run.having(restore_point="x"), chain, "d0a1b2c3e4f5:head", sql=True) if driver == "psycopg2" else ""  # fmt: skip
    query(proved_run.url, damage)
    with pytest.raises(GateClosed, match=said):
        upgrade(proved_run, chain, "head")
    assert version(proved_run) == "d0a1b2c3e4f5"
    if script:
        done = psql(proved_run, script)
        assert "backfill refuses: this revision: " in done.stderr


def test_a_policy_that_hides_rows_is_a_refusal(proved_run: Operator, chain: Path) -> None:
    url = proved_run.url
    role = f"app_{uuid.uuid4().hex[:8]}"
    env(chain, "psycopg2", [f"set role {role}"])
    query(
        url,
        f"create role {role}; alter table user_events owner to {role}; grant all on all tables in schema public, backfill to {role};"
        f" grant usage, create on schema public, backfill to {role};"
        " alter table user_events enable row level security, force row level security;"
        " create policy few on user_events using (false)",
    )
    owner = proved_run.having(ledger_owner=query(url, "select current_user")[0][0])
    try:
        with pytest.raises(GateClosed, match=r"row-level security.*run the chain as a role with BYPASSRLS"):
            upgrade(owner, chain, "head")
    finally:
        query(url, f"reassign owned by {role} to current_user; drop owned by {role}; drop role {role}")


def test_the_applications_statement_timeout_ends_no_question(proved_run: Operator, chain: Path) -> None:
    env(chain, "psycopg2", ["set statement_timeout = '300ms'"])
    upgrade(proved_run, chain, "d0a1b2c3e4f5")
    with closing(connect(proved_run.url, autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("lock table user_events in access exclusive mode")
        later = threading.Timer(1.5, connection.rollback)
        later.start()
        try:
            upgrade(proved_run, chain, "f00000000001")
        finally:
            later.join()
    assert version(proved_run) == "f00000000001"


# What bears our names and is not ours

CHECK = constraint("user_events")
ELSEWHERE = [
    (
        f"alter table user_events drop constraint {CHECK}; alter table user_events add constraint {CHECK} check (true)",
        f"{CHECK}: it has another definition",
    ),
    (
        f"alter table user_events drop constraint {CHECK}; alter table user_events add constraint {CHECK}"
        " check (ip_address_string is null or ip_address_id is not null) no inherit",
        "another definition",
    ),
    (f"alter table user_events drop constraint {CHECK}", f"{CHECK}: it is missing"),
    (
        f"create function public.nothing() returns trigger language plpgsql as 'begin return new; end';"
        f" create or replace trigger {guard('user_events')} before insert or update on user_events for each row"
        " when (new.ip_address_string is not null) execute function public.nothing()",
        f"trigger {guard('user_events')}",  # it keeps the column, as any trigger of somebody else's does
    ),
    (
        f"do $$ begin execute (select 'create or replace function ' || tgfoid::regproc || '() returns trigger language plpgsql"
        f" as ''begin return new; end''' from pg_trigger where tgname = '{guard('user_events')}'); end $$",
        "its function is not",
    ),
    (f"alter table user_events disable trigger {guard('user_events')}", "is disabled"),
    (f"alter table user_events enable replica trigger {guard('user_events')}", "is disabled"),
    (
        f"alter table user_events enable trigger {guard('user_events')}",
        "does not fire where session_replication_role is replica",
    ),
]


@pytest.mark.parametrize(("change", "said"), ELSEWHERE)
def test_what_bears_our_name_and_is_another_thing_opens_nothing(
    proved_run: Operator, chain: Path, change: str, said: str
) -> None:
    named = proved_run.having(restore_point="nightly")
    upgrade(named, chain, "f00000000002")
    query(named.url, change)
    with pytest.raises(CommandError, match=said):
        upgrade(named, chain, "head")


def test_a_constraint_that_is_not_enforced_opens_nothing(proved_run: Operator, chain: Path) -> None:
    if query(proved_run.url, "select current_setting('server_version_num')::int < 180000") == [(True,)]:
        pytest.skip("PostgreSQL 18 brought NOT ENFORCED")
    named = proved_run.having(restore_point="nightly")
    upgrade(named, chain, "f00000000002")
    query(
        named.url,
        f"alter table user_events drop constraint {CHECK}; alter table user_events add constraint {CHECK}"
        " check (ip_address_string is null or ip_address_id is not null) not enforced",
    )
    with pytest.raises(CommandError, match="it is not enforced"):
        upgrade(named, chain, "head")
    upgrade(named, chain, "f00000000001", down=True)
    with pytest.raises(CommandError, match="it is not enforced"):
        upgrade(named, chain, "f00000000002")


def test_a_guard_that_was_changed_is_made_anew(proved_run: Operator, chain: Path) -> None:
    """As when two commands are at the chain at once, or somebody went back by hand."""
    named = proved_run.having(restore_point="nightly")
    upgrade(named, chain, "f00000000002")
    query(named.url, "update public.alembic_version set version_num = 'd0a1b2c3e4f5'")
    query(named.url, ELSEWHERE[0][0])
    upgrade(named, chain, "head")
    assert version(named) == "f00000000003"
