"""Databases in other encodings, and with a collation of another kind: the whole chain works, or is refused at once."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import make_url

from tests.chain import goes_the_whole_way
from tests.databases import query
from tests.demo_template import environment, fill_demo
from tests.operator import Operator

ICU = (
    "locale_provider icu icu_locale 'de-DE-u-ks-level2' locale 'C'"  # neither case nor the server's own order
)


@pytest.fixture
def database_with(server_url: str) -> Iterator[Callable[[str], str]]:
    """``database_with(options)``: the URL of an empty database that was created so."""
    made: list[str] = []

    def create(options: str) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        query(server_url, f"create database {name} template template0 {options}")
        made.append(name)
        return make_url(server_url).set(database=name).render_as_string(hide_password=False)

    yield create
    for name in made:
        query(server_url, f"drop database {name} with (force)")


@pytest.mark.parametrize("encoding", ["LATIN1", pytest.param("WIN1252", marks=pytest.mark.slow)])
def test_the_whole_chain_in_an_encoding_of_one_byte(
    database_with: Callable[[str], str], home: Path, encoding: str
) -> None:
    url = database_with(f"encoding '{encoding}' locale 'C'")
    fill_demo(url)
    found = goes_the_whole_way(Operator(url, environment(url, home)))
    assert found["events"]
    assert all(covered for _, covered, _ in found["verify"])


def test_the_whole_chain_under_an_icu_collation(database_with: Callable[[str], str], home: Path) -> None:
    try:
        url = database_with(f"encoding 'UTF8' {ICU}")
    except psycopg2.Error as error:
        pytest.skip(f"this server makes no such database: {error.pgcode}")
    fill_demo(url)
    found = goes_the_whole_way(Operator(url, environment(url, home)))
    assert all(covered for _, covered, _ in found["verify"])


def test_a_database_without_an_encoding_is_refused_at_once(
    database_with: Callable[[str], str], home: Path
) -> None:
    url = database_with("encoding 'SQL_ASCII' locale 'C'")
    operator = Operator(url, environment(url, home))
    for words in (("plan",), ("run", "--quiet"), ("verify",), ("scan",), ("status",), ("erase",), ("prove",)):
        said = operator.is_told(*words)
        assert said.code == 2, words
        assert "SQL_ASCII" in said.err, words
    assert query(url, "select to_regnamespace('backfill')") == [(None,)]
