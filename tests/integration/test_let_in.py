"""What the guard lets in after a proof is counted by it, and asked under the lock of the drop."""

import threading
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from alembic.util import CommandError

from tests.databases import connect, query
from tests.integration.test_other_chain import ENV, upgrade
from tests.operator import Operator
from tests.several import chain_of, job, plan_of, several

LINKED = "insert into users (ip, ip_id) select '8.8.8.8', max(id) from addresses where host(ip_address) <> '8.8.8.8'"


@pytest.fixture
def guarded(database: str, home: Path, tmp_path: Path) -> tuple[Operator, Path]:
    operator = several(database, home, tmp_path, job("users")).having(
        restore_point="before", observe="0", lock_timeout_ms="60000"
    )
    operator.types("run", "--quiet")
    operator.types("verify")
    chain = chain_of(plan_of(operator), tmp_path, ENV)
    upgrade(operator, chain, "002")
    return operator, chain


def let_in(operator: Operator) -> int:
    return query(operator.url, "select count(*) from backfill.let_in where job = 'public.users.ip'")[0][0]


def test_a_row_that_came_while_the_drop_waited_keeps_the_column(guarded: tuple[Operator, Path]) -> None:
    operator, chain = guarded
    refusal: list[BaseException] = []

    def drop() -> None:
        try:
            upgrade(operator, chain, "head")
        except CommandError as error:
            refusal.append(error)

    with closing(connect(operator.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("select from users limit 1")  # its lock keeps the drop waiting, and lets readers read
        dropping = threading.Thread(target=drop)
        dropping.start()
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'lock table%'"
        while not query(operator.url, waiting)[0][0]:
            assert dropping.is_alive(), refusal
        cursor.execute(LINKED)  # another address than its text
        other.commit()
        dropping.join()
    assert "rows let in by the guard of users: 1 with an address came after the last verification" in str(
        refusal
    )
    assert query(operator.url, "select count(*) from users where ip = '8.8.8.8'")[0][0] > 0
    assert "NOT COVERED" in operator.types("verify", expect=1).out
    operator.types("repair", "users", "--kind", "link", "--count", 1)
    operator.types("verify")
    upgrade(operator, chain, "head")
    assert let_in(operator) == 0


def test_a_row_of_a_transaction_that_ended_after_the_proof_began_is_counted(
    guarded: tuple[Operator, Path],
) -> None:
    """It was entered before the verification looked, and nobody but its own transaction saw it."""
    operator, chain = guarded
    with closing(connect(operator.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute(LINKED.replace("<>", "="))
        operator.types("verify")
        other.commit()
    with pytest.raises(CommandError, match="let in by the guard of users: 1 with an address"):
        upgrade(operator, chain, "head")
    operator.types("verify")
    upgrade(operator, chain, "head")


def test_only_rows_that_are_let_in_are_counted(guarded: tuple[Operator, Path]) -> None:
    operator, _ = guarded
    url = operator.url
    query(url, "insert into users (ip) values (null)")
    query(url, "update users set ip_id = ip_id")
    query(url, "update users set ip = null where id = (select min(id) from users)")
    assert let_in(operator) == 0
    with closing(connect(url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute(LINKED)
        other.rollback()
    assert let_in(operator) == 0
    query(url, LINKED)
    query(url, LINKED)
    assert let_in(operator) == 2


def test_the_application_needs_no_right_in_our_schema_and_replication_is_counted_too(
    guarded: tuple[Operator, Path],
) -> None:
    operator, _ = guarded
    url = operator.url
    query(url, "create role application_of_test") if not query(
        url, "select from pg_roles where rolname = 'application_of_test'"
    ) else None
    try:
        query(url, "grant select, insert, update on users, addresses to application_of_test")
        with closing(connect(url)) as other, other.cursor() as cursor:
            cursor.execute("set role application_of_test; set search_path = pg_temp")
            cursor.execute("create temporary table let_in (job text, transaction text)")
            cursor.execute(LINKED.replace("users", "public.users").replace("addresses", "public.addresses"))
            cursor.execute("select count(*) from pg_temp.let_in")
            assert cursor.fetchall() == [(0,)]
        assert let_in(operator) == 1
        with closing(connect(url)) as other, other.cursor() as cursor:
            cursor.execute("set session_replication_role = replica")
            cursor.execute(LINKED)
        assert let_in(operator) == 2
    finally:
        query(url, "drop owned by application_of_test")
        query(url, "drop role application_of_test")


def test_the_ledger_is_not_taken_away_from_under_a_guard(guarded: tuple[Operator, Path]) -> None:
    operator, _ = guarded
    with pytest.raises(Exception, match="guards write to this ledger: zz_backfill_guard_ip_"):
        operator.migrates("base", down=True)
    query(operator.url, LINKED)
    assert let_in(operator) == 1


def test_a_guard_is_not_made_by_a_role_that_could_not_count(
    database: str, home: Path, tmp_path: Path
) -> None:
    operator = several(database, home, tmp_path, job("users")).having(observe="0")
    operator.types("run", "--quiet")
    operator.types("verify")
    ((owner,),) = query(database, "select current_user")
    role = f"chain_{uuid.uuid4().hex[:12]}"
    query(database, f"create role {role}")
    try:
        for grant in (
            "usage, create on schema backfill, public",
            "select on all tables in schema backfill, public",
        ):
            query(database, f"grant {grant} to {role}")
        query(database, f"alter table users owner to {role}")
        chain = chain_of(
            plan_of(operator),
            tmp_path,
            ENV.replace(
                "    url = make_url(", f"    os.environ['PGOPTIONS'] = '-c role={role}'\n    url = make_url("
            ),
        )
        with pytest.raises(CommandError, match=rf"{role} may not write backfill.let_in"):
            upgrade(operator.having(ledger_owner=owner), chain, "001")
        query(database, LINKED)
    finally:
        query(database, f"alter table users owner to current_user; drop owned by {role}; drop role {role}")
