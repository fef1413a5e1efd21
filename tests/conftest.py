"""Fixtures: a real PostgreSQL for the session, a database for each test.

The server is an embedded one in a temporary folder, one for each xdist worker. With
BACKFILL_TEST_DATABASE_URL set it is that one, whose role must be allowed to create databases.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backfill.database.embedded import EmbeddedServer
from tests.databases import Databases


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A short path that the server's user can enter, which ``tmp_path`` is not for root."""
    with tempfile.TemporaryDirectory(prefix="backfill-test-") as folder:
        Path(folder).chmod(0o711)
        home = Path(folder) / "home"
        try:
            yield home
        finally:
            EmbeddedServer(home).remove()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's BACKFILL_ and PG variables do not reach the tests."""
    for name in list(os.environ):
        if name.startswith(("BACKFILL_", "PG")) and name != "BACKFILL_TEST_DATABASE_URL":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The SQLAlchemy URL of a running server."""
    given = os.environ.get("BACKFILL_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with temporary_home() as home:
        yield EmbeddedServer(home).ensure()


@pytest.fixture(scope="session")
def databases(server_url: str) -> Iterator[Databases]:
    """The databases of the session's server; templates are filled once a session."""
    made = Databases(server_url)
    yield made
    made.drop_all()


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    """The URL of a fresh empty database."""
    url = databases.create()
    yield url
    databases.drop(url)


@pytest.fixture
def clone(databases: Databases) -> Iterator[Callable[[str], str]]:
    """``clone(template)``: the URL of a copy of a template, dropped after the test."""
    made: list[str] = []

    def copy(template: str) -> str:
        made.append(databases.clone(template))
        return made[-1]

    yield copy
    for url in made:
        databases.drop(url)
