"""A ledger that somebody else prepared: nothing in it is read or run, whatever is typed."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic.util import CommandError
from sqlalchemy import make_url

from tests.databases import query
from tests.operator import Operator

COMMANDS = [
    ("plan", "--no-sample"),
    ("calibrate",),
    ("run", "--quiet"),
    ("run", "--quiet", "--strategy", "shadow"),
    ("status",),
    ("pause",),
    ("resume",),
    ("cancel",),
    ("verify",),
    ("report",),
    ("gates",),
    ("quarantine", "list"),
    ("quarantine", "settle", "user_events", "--as", "sentinel", "--count", 1),
    ("addresses", "merge", "--count", 1),
    ("repair", "user_events", "--kind", "link", "--count", 1),
    ("seal", "user_events"),
    ("unseal", "user_events"),
    ("cutover", "user_events"),
    ("erase",),
    ("prove",),
    ("disclose", "nobody"),
    ("scan",),
]


@contextmanager
def stranger(url: str) -> Iterator[str]:
    """A role that may make schemas, and nothing else."""
    name = f"{make_url(url).database}_stranger"
    query(url, f"create role {name} login; grant create on database {make_url(url).database} to {name}")
    try:
        yield name
    finally:
        query(url, f"drop owned by {name} cascade; drop role {name}")


def as_role(operator: Operator, role: str) -> str:
    return make_url(operator.url).set(username=role).render_as_string(hide_password=False)


@pytest.fixture
def prepared(fresh_demo: Operator) -> Iterator[Operator]:
    """The stranger was first: a schema of that name, a table of the ledger, a trigger on it."""
    with stranger(fresh_demo.url) as role:
        query(
            as_role(fresh_demo, role),
            "create schema backfill; create table backfill.decisions (id bigint);"
            " create function backfill.evil() returns trigger language plpgsql as $$ begin raise exception 'caught'; end $$;"
            " create trigger evil before insert on backfill.decisions for each row execute function backfill.evil();"
            " create view backfill.runs as select 1 as id; grant all on schema backfill to public;",
        )
        yield fresh_demo


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(map(str, words[:4])))
def test_every_command_refuses_it_and_names_object_and_owner(prepared: Operator, words: tuple) -> None:
    before = query(prepared.url, "select relname, relowner from pg_class where relnamespace = 'backfill'::regnamespace order by 1")  # fmt: skip
    said = prepared.types(*words, expect=2)
    assert "Schema backfill holds what this role does not trust" in said.err
    for found in ("schema backfill, owned by", "table decisions, owned by", "view runs, owned by", "function evil, owned by", "trigger evil on decisions"):  # fmt: skip
        assert found in said.err
    assert query(prepared.url, "select relname, relowner from pg_class where relnamespace = 'backfill'::regnamespace order by 1") == before  # fmt: skip


def test_alembic_refuses_it_too(prepared: Operator) -> None:
    with pytest.raises(CommandError, match=r"does not trust: .*schema backfill, owned by"):
        prepared.migrates("0001_expand")


# What somebody may hang on a ledger that is ours, or leave beside it; each is refused, by name.
HUNG = [
    ("create trigger t before insert on backfill.decisions for each row execute function backfill.f()", "trigger t on decisions"),
    ("create rule r as on insert to backfill.decisions do also notify x", "rule r on decisions"),
    ("create policy p on backfill.decisions", "policy p on decisions"),
    ("alter table backfill.decisions enable row level security", "row security on decisions"),
    ("alter table backfill.quarantine owner to {role}", "table quarantine, owned by {role}"),
    ("create sequence backfill.s; alter sequence backfill.s owner to {role}", "sequence s, owned by {role}"),
    ("create type backfill.e as enum ('x'); alter type backfill.e owner to {role}", "type e, owned by {role}"),
    ("create domain backfill.d as int; alter domain backfill.d owner to {role}", "type d, owned by {role}"),
    ("alter function backfill.f() owner to {role}", "function f, owned by {role}"),
    ("create materialized view backfill.m as select 1; alter table backfill.m owner to {role}", "materialized view m, owned by {role}"),
    ("alter schema backfill owner to {role}", "schema backfill, owned by {role}"),
    ("grant create on schema backfill to {role}", "CREATE on schema backfill, granted to {role}"),
    ("grant create on schema backfill to public", "CREATE on schema backfill, granted to PUBLIC"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "named"), HUNG, ids=[named for _, named in HUNG])
def test_what_is_hung_on_a_ledger_of_ours_is_refused_by_name(
    finished_run: Operator, change: str, named: str
) -> None:
    with stranger(finished_run.url) as role:
        query(
            finished_run.url,
            "create function backfill.f() returns trigger language plpgsql as $$ begin return new; end $$",
        )
        finished_run.types("status")
        query(
            finished_run.url,
            f"grant create on schema backfill to {role}" if "owner" in change else "select 1",
        )
        query(finished_run.url, change.format(role=role))
        if "owner to" in change and "alter schema" not in change:
            query(finished_run.url, f"revoke create on schema backfill from {role}")
        said = finished_run.types("verify", expect=2)
        assert named.format(role=role) in said.err
        query(finished_run.url, f"reassign owned by {role} to current_user")


def test_a_named_owner_is_trusted_and_a_superuser_trusts_nobody_else(finished_run: Operator) -> None:
    with stranger(finished_run.url) as role:
        query(finished_run.url, f"grant create on schema backfill to {role}; alter table backfill.keys owner to {role}; revoke create on schema backfill from {role}")  # fmt: skip
        assert f"table keys, owned by {role}" in finished_run.types("status", expect=2).err
        finished_run.having(ledger_owner=role).types("status")
        finished_run.having(ledger_owner=f"{role}_2").types("status", expect=2)
        query(
            finished_run.url, f"grant {role} to current_user"
        )  # a membership by name, which no superuser has by itself
        finished_run.types("status")
        query(finished_run.url, f"revoke {role} from current_user; reassign owned by {role} to current_user")


def test_a_gate_in_another_chain_asks_it_as_well(proved_run: Operator) -> None:
    with stranger(proved_run.url) as role:
        query(proved_run.url, f"grant create on schema backfill to {role}")
        assert f"CREATE on schema backfill, granted to {role}" in proved_run.is_refused("0002_journals")


def test_somebody_elses_address_map_is_left_alone(fresh_demo: Operator) -> None:
    """The operator's own: an owner that is trusted, and a table that is not ours."""
    query(
        fresh_demo.url,
        "create schema backfill; create table backfill.address_map (street text, house int);"
        " insert into backfill.address_map values ('Main St', 1)",
    )
    said = fresh_demo.types("run", "--quiet", expect=2)
    assert "Table backfill.address_map is not ours: its columns are street, house." in said.err
    assert query(fresh_demo.url, "select * from backfill.address_map") == [("Main St", 1)]


def test_a_whole_schema_of_them_is_a_line_all_the_same(fresh_demo: Operator) -> None:
    with stranger(fresh_demo.url) as role:
        tables = " ".join(f"create table backfill.t{number:02} (id int);" for number in range(40))
        query(as_role(fresh_demo, role), f"create schema backfill; {tables}")
        said = fresh_demo.types("status", expect=2).err
        assert "schema backfill, owned by" in said
        assert "; and 31 more. Nothing in it was read." in said
        assert len(said) < 1_000
