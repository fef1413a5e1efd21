"""Several raw columns a table, tables of one name, names of every kind: each is guarded, proved and dropped by itself."""

import json
from pathlib import Path

import psycopg2.errors
import pytest
from alembic.util import CommandError
from psycopg2 import sql

from backfill.database.guard_trigger import guard_trigger
from backfill.plan import Discard
from backfill.raw_column import RawColumn
from tests.databases import query
from tests.integration.test_other_chain import ENV, upgrade
from tests.operator import Operator
from tests.several import LONG, chain_of, insert, job, plan_of, several

ODD = 'Odd."Täble%(x)s'
SEVERAL = (
    job("users", "ip", "ip_id", extra="additional"),
    job("users", "Last.IP", "last_id"),
    Discard(table="users", column="registration_ip"),
    Discard(table="users", column="note % {}"),
    job("users", schema="audit"),
    Discard(table="users", schema="audit", column="registration_ip"),
    job(LONG + "a"),
    job(LONG + "b"),
    job("ü" * 31 + "a", "ß" * 31 + "a"),
    job("ü" * 31 + "a", "ß" * 31 + "b", "b_id"),
    job(ODD, """raw '"%s" {} :x \\ $1 $guard$""", 'link "%" .', schema="Schéma.%s"),
)


@pytest.fixture
def operator(database: str, home: Path, tmp_path: Path) -> Operator:
    return several(database, home, tmp_path, *SEVERAL)


def columns(operator: Operator, part: RawColumn) -> set[str]:
    found = query(
        operator.url,
        "select column_name from information_schema.columns where table_schema = %s and table_name = %s",
        part.schema_,
        part.table,
    )
    return {name for (name,) in found}


def verified(operator: Operator, expect: int = 0) -> dict[str, dict]:
    said = json.loads(operator.types("verify", "--format", "json", expect=expect).out)
    return {record["job"]: record for record in said["tables"]}


def test_the_whole_way_with_several_jobs_a_table_and_names_of_every_kind(
    operator: Operator, tmp_path: Path
) -> None:
    plan = plan_of(operator)
    assert len({part.label for part in plan.parts}) == len(plan.parts)
    operator.types("plan", "--no-sample")
    operator.types("run", "--quiet", "--batch-blocks", 1)
    for one in plan.jobs:
        statement = sql.SQL(
            "select count(*) from {} as event left join addresses as known on known.id = {} where {} is not null"
            " and trim({}) is distinct from host(known.ip_address)"
        ).format(
            sql.Identifier(one.schema_, one.table),
            sql.Identifier(one.link),
            sql.Identifier(one.raw),
            sql.Identifier(one.raw),
        )
        assert query(operator.url, statement) == [(0,)], one.identity
    records = verified(operator)
    assert list(records) == [part.identity for part in plan.parts]
    assert all(record["covered"] for record in records.values())
    report = operator.types("report").out
    assert "users.Last.IP" in report
    assert "audit.users.ip" in report
    chain = chain_of(plan, tmp_path, ENV)
    named = operator.having(restore_point="before", observe="0")
    upgrade(named, chain, "head")
    for part in (*plan.jobs, *plan.discard):
        assert part.raw_column not in columns(operator, part)
    for one in plan.jobs:
        assert one.link in columns(operator, one)
    left = "select count(*) from pg_proc where pronamespace = 'backfill'::regnamespace"
    assert query(operator.url, left) == [(0,)]
    assert query(operator.url, "select count(*) from pg_trigger where tgname like 'z__backfill%'") == [(0,)]


def test_guards_of_all_jobs_are_live_at_once_and_each_minds_its_own(
    operator: Operator, tmp_path: Path
) -> None:
    plan = plan_of(operator)
    operator.types("run", "--quiet")
    verified(operator)
    upgrade(operator.having(observe="0"), chain_of(plan, tmp_path, ENV, only=["guard", "validate"]), "head")
    names = [guard_trigger(one) for one in plan.jobs]
    assert len(set(names)) == len(names)
    assert max(len(name.encode()) for name in names) <= 63
    ((link,),) = query(operator.url, "select id from addresses where ip_address = '8.8.8.8'")
    tables = {
        one.table_identity: [two for two in plan.jobs if two.table_identity == one.table_identity]
        for one in plan.jobs
    }
    for jobs in tables.values():
        place = sql.Identifier(jobs[0].schema_, jobs[0].table)
        key = insert(operator.url, jobs, link=link)  # all of them linked: let in
        for one in jobs:
            with pytest.raises(psycopg2.errors.CheckViolation, match="may not hold"):
                insert(operator.url, [one], 0)
            away = sql.SQL("update {} set {} = null where id = {}").format(
                place, sql.Identifier(one.raw), sql.Literal(key)
            )
            query(operator.url, away)
            changed = sql.SQL("update {} set {} = '1.1.1.1' where {} is not null").format(
                place, sql.Identifier(one.raw), sql.Identifier(one.raw)
            )
            with pytest.raises(psycopg2.errors.CheckViolation, match="may not change"):
                query(operator.url, changed)


def test_the_gate_of_a_job_stays_blocked_whatever_is_proved_of_a_discard_on_its_table(
    database: str, home: Path, tmp_path: Path
) -> None:
    parts = job("users"), Discard(table="users", column="registration_ip")
    operator = several(database, home, tmp_path, *parts)
    query(database, "insert into users (ip, registration_ip) values ('no address', '8.8.8.8')")
    operator.types("run", "--quiet")
    records = verified(operator, expect=1)
    assert not records["public.users.ip"]["covered"]
    assert records["public.users.registration_ip"]["covered"]
    plan = plan_of(operator)
    chain = chain_of(plan, tmp_path, ENV)
    with pytest.raises(CommandError, match=r"proof of users\.ip: the last verification says"):
        upgrade(operator.having(restore_point="before", observe="0"), chain, "head")
    assert "ip" in columns(operator, plan.jobs[0])


def test_of_two_discards_on_a_table_the_named_one_goes(database: str, home: Path, tmp_path: Path) -> None:
    one, other = (Discard(table="users", column=name) for name in ("ip_address", "registration_ip_address"))
    operator = several(database, home, tmp_path, job("events"), one, other)
    operator.types("run", "--quiet")
    verified(operator)
    chain = chain_of(plan_of(operator), tmp_path, ENV, only=())
    (chain / "versions" / "r1.py").write_text(
        "from backfill.gates import drop_column, drop_discarded_column\nrevision = '1'\ndown_revision = None\n"
        "def upgrade(): drop_column('users', 'registration_ip_address')\ndef downgrade(): pass\n"
    )
    (chain / "versions" / "r2.py").write_text(
        "from backfill.gates import drop_discarded_column\nrevision = '2'\ndown_revision = '1'\n"
        "def upgrade(): drop_discarded_column('users')\ndef downgrade(): pass\n"
    )
    named = operator.having(restore_point="before", observe="0")
    upgrade(named, chain, "1")
    assert columns(operator, one) == {"id", "ip_address"}
    with pytest.raises(
        CommandError, match=r"users could be any of: users\.ip_address, users\.registration_ip"
    ):
        upgrade(named, chain, "2")
    assert query(database, "select job, detail ->> 'column' from backfill.decisions where kind = 'drop'") == [
        ("public.users.registration_ip_address", "registration_ip_address")
    ]


def test_seals_of_one_table_are_told_apart(database: str, home: Path, tmp_path: Path) -> None:
    parts = job("users"), Discard(table="users", column="registration_ip")
    operator = several(database, home, tmp_path, *parts)
    said = operator.types("seal", "users", expect=None)
    assert said.code == 2
    assert "users could be any of: users.ip, users.registration_ip" in said.err
    operator.types("seal", "users.registration_ip")
    operator.types("seal", "public.users.ip")
    key = insert(database, parts)
    assert query(database, "select ip, registration_ip from users where id = %s", key) == [(None, None)]
    operator.types("unseal", "users.ip")
    key = insert(database, parts)
    assert query(database, "select ip, registration_ip from users where id = %s", key) == [("8.8.8.8", None)]
    assert "At most 2 raw values" in operator.types("unseal", "users.registration_ip").out


def test_a_copy_is_made_for_one_job_of_a_table_at_a_time(database: str, home: Path, tmp_path: Path) -> None:
    parts = job("users"), job("users", "last", "last_id"), Discard(table="users", column="old")
    operator = several(database, home, tmp_path, *parts)
    said = operator.types("run", "--strategy", "shadow", "--quiet", expect=None)
    assert "users.ip and users.last are columns of one table" in said.err
    assert "Begin with `backfill run --strategy shadow users.ip`" in said.err
    operator.types("run", "users.ip", "--strategy", "shadow", "--postpone-cutover", "--quiet")
    said = operator.types("run", "users.last", "--strategy", "shadow", "--quiet", expect=None)
    assert "a copy for public.users.ip" in said.err
    assert "copy" in operator.types("cutover", "users.last", expect=None).err
    operator.types("cutover", "users.ip")
    operator.types("cutover", "--finish", "users.ip")
    assert columns(operator, parts[0]) == {"id", "ip_id", "last", "last_id", "old"}
    operator.types("run", "users.last", "--strategy", "shadow", "--quiet")
    operator.types("cutover", "--finish", "users.last")
    records = verified(operator)
    assert [record["covered"] for record in records.values()] == [True] * 4
    assert query(database, "select count(*), count(ip_id), count(last_id), count(old) from users") == [
        (20, 16, 16, 16)
    ]


def test_copies_of_long_names_do_not_meet(database: str, home: Path, tmp_path: Path) -> None:
    operator = several(
        database, home, tmp_path, job(LONG + "a"), job(LONG + "b"), job("users"), job("users", schema="audit")
    )
    operator.types("run", "--strategy", "shadow", "--quiet")
    for one in plan_of(operator).jobs:
        assert columns(operator, one) == {"id", "ip_id"}
        operator.types("cutover", "--finish", one.identity)
    verified(operator)
