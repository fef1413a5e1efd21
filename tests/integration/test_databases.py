"""The fixtures themselves: a database a test, templates filled once."""

from tests.databases import connect, query


def test_a_fresh_database_is_empty_and_takes_any_text(database):
    assert query(database, "select count(*) from pg_tables where schemaname = 'public'") == [(0,)]
    assert query(database, "show server_encoding") == [("UTF8",)]


def test_a_template_is_filled_once_and_its_clones_are_apart(databases, clone):
    filled = []

    def fill(url):
        filled.append(url)
        query(url, "create table fruit as select 'fig' as name")

    for _ in range(2):
        databases.template("fruit", fill)
    first, second = clone("fruit"), clone("fruit")
    query(first, "delete from fruit")
    assert len(filled) == 1
    assert query(second, "select name from fruit") == [("fig",)]


def test_a_database_is_dropped_although_a_session_was_left_in_it(databases):
    url = databases.create()
    left = connect(url)
    databases.drop(url)
    left.close()
    names = query(databases.server_url, "select datname from pg_database")
    assert not any(name in url for (name,) in names if name.startswith("test_"))
