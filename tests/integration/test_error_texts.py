"""What an error of the database says in our words holds no value of a row, whoever raised it."""

import psycopg2
import pytest

from backfill.database.error_text import problem_of, sqlstate_of
from tests.databases import connect

ADDRESS = "203.0.113.77"
TABLES = f"""
    create domain small as text constraint is_short check (length(value) < 5);
    create table seen (
        id int primary key, ip text not null constraint is_known check (ip <> '{ADDRESS}'),
        parent int constraint has_parent references seen, short small, exact inet,
        constraint only_one exclude using btree (exact with =)
    );
    insert into seen (id, ip, exact) values (1, '192.0.2.1', '{ADDRESS}');
    create table other (id int, ip text not null);
"""
# In words of its own, with codes of its own and of the server, and in every field that it can fill.
RAISES = [
    ("P0001", "message = new.ip"),
    ("IP001", "message = new.ip"),
    ("ZZ999", "message = new.ip, detail = new.ip, hint = new.ip"),
    ("57014", "message = new.ip"),
    ("55P03", "message = new.ip"),
    ("40001", "message = new.ip"),
    ("42501", "message = new.ip, table = new.ip"),
    ("42P01", "message = new.ip, schema = new.ip"),
    ("25006", "message = new.ip"),
    ("53100", "message = new.ip"),
    ("23505", "message = new.ip, constraint = new.ip, table = new.ip, column = new.ip, datatype = new.ip"),
    ("08006", "message = new.ip"),
    ("XX000", "message = new.ip"),
]
TRIGGER = """
    create function speaks() returns trigger language plpgsql as $$
    begin
        raise exception using errcode = '{}', {};
    end $$;
    create trigger speaks before insert on other for each row execute function speaks()
"""


def failure(url: str, made: str, statement: str) -> psycopg2.Error:
    connection = connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(TABLES)
            cursor.execute(made)
            with pytest.raises(psycopg2.Error) as caught:
                cursor.execute(statement)
        return caught.value
    finally:
        connection.close()


@pytest.mark.parametrize(("code", "fields"), RAISES)
def test_what_a_trigger_raises_is_not_repeated(database: str, code: str, fields: str) -> None:
    error = failure(database, TRIGGER.format(code, fields), f"insert into other values (1, '{ADDRESS}')")
    assert sqlstate_of(error) == code
    assert ADDRESS in str(error)
    assert ADDRESS not in problem_of(error)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"insert into seen (id, ip) values (2, '{ADDRESS}')", "check violation, constraint is_known"),
        ("insert into seen (id, ip) values (2, null)", "column ip"),
        (f"insert into seen (id, ip, exact) values (3, '1.1.1.1', '{ADDRESS}')", "constraint only_one"),
        ("insert into seen (id, ip) values (1, '1.1.1.1')", "unique violation, constraint seen_pkey"),
        ("insert into seen (id, ip, parent) values (2, '1.1.1.1', 9)", "constraint has_parent"),
        (f"insert into seen (id, ip, short) values (2, '1.1.1.1', '{ADDRESS}')", "constraint is_short"),
        (f"select '{ADDRESS}'::int", "invalid text representation"),
        (f"select '{ADDRESS}/99'::inet", "invalid text representation"),
        (f"select '{{{ADDRESS}'::jsonb", "invalid text representation"),
        (f"do $$ begin execute format('select %L::int', '{ADDRESS}'); end $$", "invalid text"),
        (f"do $$ begin assert false, '{ADDRESS}'; end $$", "assert failure"),
        ("select * from no_such_table", 'relation "no_such_table" does not exist'),
        ("select no_such_column from seen", 'column "no_such_column" does not exist'),
        (
            "set local statement_timeout = 20; select pg_sleep(1)",
            "canceling statement due to statement timeout",
        ),
    ],
)
def test_what_the_server_says_is_told_by_condition_and_names(
    database: str, statement: str, said: str
) -> None:
    problem = problem_of(failure(database, "select 1", statement))
    assert said in problem
    assert ADDRESS not in problem
