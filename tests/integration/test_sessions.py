"""How a session of ours begins: what it refuses, whose path it has, who holds what it waits for."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, make_url, text

from backfill.database.connection import make_engine
from backfill.database.search_path import under_application_path, under_own_path
from backfill.database.session import Origin
from backfill.engine.target import open_engine
from backfill.errors import SessionUnfit
from backfill.settings import Settings
from tests.databases import query

STANDING = (
    """select current_setting('search_path'), current_setting('TimeZone'), current_setting('row_security')"""
)
OURS = ("pg_catalog, pg_temp", "UTC", "off")


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """A role that may log in, and no more."""
    name = f"odd_{uuid.uuid4().hex[:8]}"
    query(database, f"create role {name} login")
    yield name
    query(database, f"drop owned by {name} cascade")
    query(database, f"drop role {name}")


def engine_as(url: str, role: str) -> Engine:
    return make_engine(make_url(url).set(username=role), ledger_schema="backfill")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("session_replication_role", "replica"),
        ("zero_damaged_pages", "on"),
        ("ignore_checksum_failure", "on"),
    ],
)
def test_what_passes_over_triggers_or_rows_is_refused_where_we_may_not_change_it(
    database: str, role: str, setting: str, value: str
) -> None:
    query(database, f"alter role {role} set {setting} = {value}")
    url = make_url(database).set(username=role).render_as_string(hide_password=False)
    with pytest.raises(SessionUnfit, match=f"{setting} = {value}"):
        open_engine(Settings(database_url=url))


def test_a_role_of_the_role_itself_is_who_we_are(database: str, role: str) -> None:
    query(database, f"create role {role}_owner")
    query(database, f"grant {role}_owner to {role}")
    query(database, f"alter role {role} set role = '{role}_owner'")
    engine = engine_as(database, role)
    with engine.connect() as connection:
        assert connection.execute(text("select current_user")).scalar() == f"{role}_owner"
    engine.dispose()
    query(database, f"drop role {role}_owner")


def test_a_trigger_finds_its_own_tables_where_the_role_has_the_name_of_the_ledger_s_schema(
    database: str, role: str
) -> None:
    query(
        database,
        f"""create schema app; create schema "{role}" authorization {role};
            create table app.runs (what text); create table "{role}".runs (what text);
            create table app.seen (id int primary key);
            create function app.note() returns trigger language plpgsql as $$ begin
                insert into runs values ('seen'); return new;
            end $$;
            create trigger note before insert on app.seen for each row execute function app.note();
            alter role {role} set search_path = "$user", app;
            grant usage on schema app to {role}; grant all on all tables in schema app to {role};
            grant all on "{role}".runs to {role}""",
    )
    engine = make_engine(make_url(database).set(username=role), ledger_schema=role)
    with engine.begin() as connection:
        under_application_path(connection)
        connection.execute(text("insert into app.seen values (1)"))
        assert connection.execute(text("show search_path")).scalar_one() == "app"
    engine.dispose()
    assert query(database, "select * from app.runs") == [("seen",)]
    assert query(database, f'select * from "{role}".runs') == []


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ('"$user", public', "public"),
        ("$user,public", "public"),
        ('"$user"', ""),
        ("Backfill , public", "public"),
        ('public, "backfill", extensions', "public, extensions"),
        ('"Backfill", public', '"Backfill", public'),
        ('"a, ""backfill""", public', '"a, ""backfill""", public'),
        ("app", "app"),
        ("", ""),
    ],
)
def test_the_ledger_s_schema_is_in_no_path_of_the_application(path: str, left: str) -> None:
    assert Origin(path, "UTC", "backfill").without("backfill").search_path == left
    assert Origin(path, "UTC", "someone").without("another").search_path == path


def test_the_application_s_path_lasts_for_a_transaction_and_its_triggers_find_their_names(
    database: str, role: str
) -> None:
    query(
        database,
        f"""create schema app;
            alter role {role} set search_path = app; alter role {role} set timezone = 'Asia/Tokyo';
            create table app.noted (what text, hour int);
            create table app.seen (id int primary key);
            create function app.note() returns trigger language plpgsql as $$ begin
                insert into noted values ('seen', extract(hour from '2024-01-01 00:00:00Z'::timestamptz)); return new;
            end $$;
            create trigger note after insert on app.seen for each row execute function app.note();
            grant usage on schema app to {role}; grant all on all tables in schema app to {role}""",
    )
    engine = engine_as(database, role)
    with engine.connect() as connection:
        assert tuple(connection.execute(text(STANDING)).one()) == OURS
        with pytest.raises(Exception, match="noted"):
            connection.execute(text("insert into app.seen values (1)"))
        connection.rollback()
        under_application_path(connection)
        assert tuple(connection.execute(text(STANDING)).one()) == ("app", "Asia/Tokyo", "on")
        connection.execute(text("insert into app.seen values (1)"))
        under_own_path(connection)
        assert tuple(connection.execute(text(STANDING)).one()) == OURS
        under_application_path(connection)
        connection.commit()
        assert tuple(connection.execute(text(STANDING)).one()) == OURS
    engine.dispose()
    assert query(database, "select * from app.noted") == [("seen", 9)]
