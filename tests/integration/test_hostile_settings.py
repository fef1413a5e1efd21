"""Whatever shell, role and database have set: the whole chain does what it does without."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from psycopg2 import sql
from sqlalchemy import make_url

from tests.chain import goes_the_whole_way
from tests.databases import Databases, connect, query
from tests.demo_template import environment, fill_demo
from tests.operator import Operator

# Each changes what a statement means, what a driver makes of its result, or how long it may take.
SETTINGS = {
    "client_encoding": "LATIN1",
    "search_path": "nowhere, pg_catalog",
    "TimeZone": "Asia/Kathmandu",
    "timezone_abbreviations": "India",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "escape_string_warning": "on",
    "backslash_quote": "off",
    "xmlbinary": "hex",
    "xmloption": "document",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "check_function_bodies": "off",
    "restrict_nonsystem_relation_kind": "view, foreign-table",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "30ms",
    "lock_timeout": "1ms",
    "transaction_timeout": "60ms",
    "idle_in_transaction_session_timeout": "20ms",
    "idle_session_timeout": "300ms",
    "synchronous_commit": "off",
    "exit_on_error": "on",
    "gin_fuzzy_search_limit": "1",
    "stats_fetch_consistency": "snapshot",
    "plan_cache_mode": "force_generic_plan",
    "geqo": "off",
    "from_collapse_limit": "1",
    "join_collapse_limit": "1",
    "enable_hashjoin": "off",
    "enable_tidscan": "off",
    "enable_indexscan": "off",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_material": "off",
    "jit": "on",
    "jit_above_cost": "0",
    "client_min_messages": "error",
    "application_name": "psql",
    "session_replication_role": "replica",
    "zero_damaged_pages": "on",
    "ignore_checksum_failure": "on",
}
SERVICE = """[odd]
client_encoding=SQL_ASCII
options=-c datestyle=German -c default_transaction_read_only=on
application_name=psql
target_session_attrs=standby
"""


def set_on(server: str, what: sql.Composable) -> None:
    """``alter database|role … set`` each that this server knows."""
    known = {name.lower() for (name,) in query(server, "select name from pg_settings")}
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        for name, value in SETTINGS.items():
            if name.lower() in known:
                setting = sql.SQL("nowhere, pg_catalog") if name == "search_path" else sql.Literal(value)
                cursor.execute(sql.SQL("alter {} set {} = {}").format(what, sql.SQL(name), setting))


@pytest.fixture(scope="module")
def undisturbed(databases: Databases, home: Path) -> Iterator[dict[str, Any]]:
    """What the chain comes to on a database of its own."""
    url = databases.create()
    fill_demo(url)
    yield goes_the_whole_way(Operator(url, environment(url, home)))
    databases.drop(url)


@pytest.fixture
def role(server_url: str) -> Iterator[str]:
    """A role's name; the role is gone after the test."""
    name = f"odd_{uuid.uuid4().hex[:8]}"
    yield name
    query(server_url, f"drop role if exists {name}")


def compare(found: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    for what, value in undisturbed.items():
        assert found[what] == value, what


@pytest.fixture
def odd_database(databases: Databases, server_url: str, role: str) -> Iterator[str]:
    """The URL of an empty database with every setting, and with a role that may nothing."""
    url = databases.create()
    name = sql.Identifier(str(make_url(url).database))
    set_on(server_url, sql.SQL("database {}").format(name))
    query(server_url, f"create role {role}")
    with closing(connect(server_url)) as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("alter database {} set role = {}").format(name, sql.Literal(role)))
    yield url
    databases.drop(url)


@pytest.fixture
def odd_shell(tmp_path: Path) -> dict[str, str]:
    """Variables of a shell, with every setting."""
    service = tmp_path / "services"
    service.write_text(SERVICE)
    return {
        "PGOPTIONS": " ".join(f"-c {name}={value.replace(' ', '')}" for name, value in SETTINGS.items()),
        "PGCLIENTENCODING": "LATIN1",
        "PGTZ": "Asia/Kathmandu",
        "PGDATESTYLE": "German",
        "PGGEQO": "off",
        "PGAPPNAME": "psql",
        "PGHOSTADDR": "192.0.2.1",
        "PGTARGETSESSIONATTRS": "standby",
        "PGSERVICEFILE": str(service),
        "PGSERVICE": "odd",
    }


def in_that_shell(url: str, home: Path, shell: dict[str, str]) -> dict[str, Any]:
    """What the chain comes to there."""
    with mock.patch.dict("os.environ", shell):
        fill_demo(url)
        return goes_the_whole_way(Operator(url, environment(url, home)))


def test_settings_of_database_and_shell_at_once(
    odd_database: str, odd_shell: dict[str, str], home: Path, undisturbed: dict[str, Any]
) -> None:
    compare(in_that_shell(odd_database, home, odd_shell), undisturbed)


@pytest.mark.slow
def test_settings_of_the_database(odd_database: str, home: Path, undisturbed: dict[str, Any]) -> None:
    compare(in_that_shell(odd_database, home, {}), undisturbed)


@pytest.mark.slow
def test_settings_of_the_shell(
    database: str, odd_shell: dict[str, str], home: Path, undisturbed: dict[str, Any]
) -> None:
    compare(in_that_shell(database, home, odd_shell), undisturbed)


@pytest.mark.slow
def test_settings_of_the_role(
    databases: Databases, server_url: str, role: str, home: Path, undisturbed: dict[str, Any]
) -> None:
    query(server_url, f"create role {role} superuser login")
    set_on(server_url, sql.SQL("role {}").format(sql.Identifier(role)))
    url = databases.create()
    try:
        odd = make_url(url).set(username=role).render_as_string(hide_password=False)
        fill_demo(odd)
        compare(goes_the_whole_way(Operator(odd, environment(odd, home))), undisturbed)
    finally:
        databases.drop(url)
