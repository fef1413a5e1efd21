"""Triggers that write the raw value of a rewritten row somewhere else: the batch is rolled back, and the column named."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest
from psycopg2 import sql
from psycopg2.errors import UndefinedTable
from sqlalchemy import make_url

from backfill.database.connection import execute, make_engine, value
from backfill.jobs import copied_values
from backfill.jobs.kinds import writer_of
from backfill.plan import Plan
from tests import rewritten
from tests.databases import connect, query
from tests.operator import Operator

TEXTS = ("8.8.8.8", "81.2.69.160", "2a00:1450::8", "127.0.0.1", "unknown", "10.0.0.0")
SCHEMA = """
    create table history (id bigint generated always as identity primary key, at timestamptz default now(), seen inet, ip text);
    create table audit (id bigint generated always as identity primary key, client inet, "Old %s row" jsonb, raw text, name text);
    create table visits (year int, ip text) partition by list (year);
    create table visits_now partition of visits for values in (2026) partition by list (year);
    create table visits_2026 partition of visits_now default;
    create table counts (day date primary key, number bigint);
    insert into counts values (current_date, 0);
    insert into history (seen, ip) select '8.8.8.8', '8.8.8.8' from generate_series(1, 500);
    create function copies() returns trigger language plpgsql as $$ begin {} return null; end $$;
    create trigger copies after update on logins for each row execute function copies();
"""
BODY = "create or replace function public.copies() returns trigger language plpgsql as $$ begin {} return null; end $$"
COPIED = {
    "its text": ("insert into history (ip) values (old.ip);", "public.history.ip"),
    "its address": ("insert into history (seen) values (old.ip::inet);", "public.history.seen"),
    "in a row as JSON": ('insert into audit ("Old %s row") values (to_jsonb(old));', "public.audit.Old %s row"),
    "in a partition, by the name that people know": ("insert into visits (year, ip) values (2026, old.ip);", "public.visits.ip"),
    "in a sentence, by an update": ("update audit set name = 'was ' || old.ip || ', is ' || new.ip where id = 1;", "public.audit.name"),
    "in a transaction of its own": ("begin perform 1 / 0; exception when division_by_zero then insert into history (ip) values (old.ip); end;", "public.history.ip"),
}  # fmt: skip
# What a busy application writes in the same transaction, and is no copy: results, counts, where the session comes from.
HARMLESS = """
    insert into audit (client, raw, name) values (inet_client_addr(), new.ip, 'of ' || coalesce(new.ip, ''));
    insert into audit ("Old %s row") values (to_jsonb(new)); update counts set number = number + 1;
    insert into history (at) values (now()); perform pg_sleep(0.02);
"""


@contextmanager
def writing(url: str) -> Iterator[None]:
    """A session that writes raw values to the history meanwhile, as it always did."""
    over = threading.Event()

    def write() -> None:
        with closing(connect(url)) as connection, connection.cursor() as cursor:
            while not over.is_set():
                cursor.execute("insert into history (seen, ip) values ('8.8.8.8', '81.2.69.160')")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


@pytest.fixture
def copied(database: str, home: Path, tmp_path: Path) -> Operator:
    """A trigger that copies nothing yet, accepted by name, and a dry run that was confirmed."""
    rewritten.table(database, "logins", "text", TEXTS)
    query(database, SCHEMA.format(""))
    query(database, "insert into audit (name) values ('first')")
    job = {"table": "logins", "raw": "ip", "becomes": "network", "unreadable": "keep"}
    plan = rewritten.plan_file(tmp_path, job)
    plan.write_text('accept = ["after-trigger:public.logins.copies"]\n' + plan.read_text())
    return rewritten.operator(database, home, plan).having(workers="1")


def test_a_copy_of_a_raw_value_in_another_table_stops_the_run(copied: Operator) -> None:
    url = copied.url
    before, asked = rewritten.values(url, "logins"), None
    everywhere = (
        "select (select count(*) from history), (select count(*) from audit), (select count(*) from visits)"
    )
    for what, (body, column) in COPIED.items():
        query(url, BODY.format(body))
        if asked is None:
            asked = rewritten.confirmed(copied.types("run", "--quiet", expect=2))
        said = copied.types(*asked, "--quiet", expect=1)
        assert f"logins: a trigger writes rows with raw addresses in {column}" in said.err, what
        assert not any(text in said.out + said.err for text in TEXTS[:4]), what
        assert rewritten.values(url, "logins") == before, what
        assert query(url, everywhere) == [(500, 1, 0)], what
        copied.types("cancel")
        asked = ["run"]
    # By name in the plan it may stay; and so may what is a job of its own.
    plan = Path(copied.variables["BACKFILL_PLAN"])
    whole = plan.read_text()
    plan.write_text(whole.replace('"]', '", "raw-copied:public.history.ip"]', 1))
    kept = copied.types("run", "--quiet")
    assert "raw-copied" not in kept.out + kept.err
    assert query(url, "select count(*) from history where ip = '81.2.69.160'") == [(2,)]
    # A busy application: results and what its sessions write beside the batch are no copies.
    plan.write_text(whole)
    query(url, "insert into logins (ip) select unnest(%s::text[])", list(TEXTS))
    query(url, BODY.format(HARMLESS))
    with writing(url):
        copied.types("run", "--quiet")
    left = "select count(*) from logins where ip in ('8.8.8.8', '81.2.69.160', '2a00:1450::8', '127.0.0.1')"
    assert query(url, left) == [(0,)]


def test_what_a_role_cannot_read_is_not_asked(database: str) -> None:
    """A role for batches alone; a table that it may not read, one whose rows are hidden, and one in a schema that is."""
    query(
        database,
        """create table logins (id int primary key, ip text);
           create table secret (ip text); create table hidden (ip text); create table open (ip text);
           create schema shut; create table shut.open (ip text);
           alter table hidden enable row level security; grant select on hidden, open, shut.open to public""",
    )
    role = f"reader_{make_url(database).database}"
    query(database, f"create role {role}")
    job = {"table": "logins", "raw": "ip", "becomes": "network", "unreadable": "keep"}
    writer = writer_of(Plan.model_validate({"name": "n", "jobs": [job]}).in_place_jobs[0], "backfill")
    engine = make_engine(make_url(database), ledger_schema="backfill")
    try:
        for names, fails in (
            (("public.secret", "public.hidden", "shut.open"), nullcontext()),
            (("public.open",), pytest.raises(UndefinedTable)),  # it is asked, and there is no map
        ):
            with engine.connect() as connection:
                oids = [
                    value(connection, sql.SQL("select {}::regclass::oid::bigint").format(sql.Literal(name)))
                    for name in names
                ]
                execute(connection, sql.SQL("set local role {}").format(sql.Identifier(role))).close()
                with fails:
                    copied_values._look(connection, writer, None, oids)
    finally:
        engine.dispose()
        query(database, f"drop role {role}")
