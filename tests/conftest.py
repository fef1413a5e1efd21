"""Fixtures: a real PostgreSQL for the session, a database for each test.

The server is an embedded one in a temporary folder, one for each xdist worker. With
BACKFILL_TEST_DATABASE_URL set it is that one, whose role must be allowed to create databases; of several,
with spaces between, each worker has its own.
"""

import compileall
import functools
import gc
import hashlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

from backfill.database.server_identity import IDENTITY
from backfill.embedded import EmbeddedServer, postmaster
from backfill.ledger.coverage import digest
from tests.databases import Databases, connect, query
from tests.demo_template import environment, fill_demo
from tests.operator import ROOT, Operator

RUN = ("run", "--quiet", "--no-sample")

# On a machine that does more than it has processors for, any example takes long.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# Under nohup, or in the background of a script, these are ignored, and a command of ours would inherit that: a
# handler is not inherited. This process goes on hearing none of them.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda _number, _frame: None)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is thorough is slow as well."""
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker("slow")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once: under PYTHONDONTWRITEBYTECODE each of hundreds of commands would do it anew."""
    if not hasattr(config, "workerinput"):
        for folder in ("backfill", "alembic"):
            compileall.compile_dir(ROOT / folder, quiet=1)


def pytest_collection_finish() -> None:
    """What thousands of tests are made of lives to the end: a collection of garbage need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_verifier_a_salt() -> Iterator[None]:
    """scrypt takes 60 ms, in nearly every command, of the same salts and nonces: each is computed once."""
    with mock.patch.object(hashlib, "scrypt", functools.cache(hashlib.scrypt)):
        yield


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
        urls = given.split()
        yield urls[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(urls)]
        return
    with temporary_home() as home:
        # Nobody kills this one. `erase` and `prove` search all of its WAL, of all tests: little is kept.
        quick = dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off")
        with mock.patch.dict(
            postmaster.SETTINGS,
            {"shared_buffers": "64MB", "min_wal_size": "32MB", "max_prepared_transactions": "4"},
        ):
            url = EmbeddedServer(home).ensure()
        with closing(connect(url)) as connection, connection.cursor() as cursor:
            for name, value in quick.items():
                cursor.execute(f"alter system set {name} = {value}")
            cursor.execute("select pg_reload_conf()")
        yield url


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


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A BACKFILL_HOME in which nothing is."""
    with tempfile.TemporaryDirectory(prefix="backfill-home-") as folder:
        yield Path(folder)


def as_if_verified_here(url: str) -> str:
    """*url*, whose records now are about that database: about the template they open no gates of a copy."""
    query(url, f"update backfill.coverage set database = {IDENTITY}")
    query(url, f"update backfill.coverage set digest = {digest('coverage')}")
    return url


@pytest.fixture
def operator_of(databases: Databases, clone: Callable[[str], str], home: Path) -> Callable[[str], Operator]:
    """``operator_of(state)``: an operator whose demo database has come to that state.

    demo: nothing was run. run: ``backfill run`` ended. settled: the quarantine is empty. proved:
    ``backfill verify`` was green. proved, at REVISION: and the chain has come to that one. migrated: the raw
    columns are dropped. erased: and rewritten away.
    """

    def at(url: str) -> Operator:
        return Operator(url, environment(url, home))

    def settle(url: str) -> None:
        at(url).settles_everything()

    def migrate(url: str) -> None:
        at(url).types("verify")
        at(url).migrates()

    def reach(state: str) -> Operator:
        databases.template("small demo", fill_demo)
        if state != "demo":
            databases.template("run", lambda url: at(url).types(*RUN) and None, "small demo")
        if state not in ("demo", "run"):
            databases.template("settled", settle, "run")
        if state == "proved":
            databases.template("proved", lambda url: at(url).types("verify") and None, "settled")
            return at(as_if_verified_here(clone("proved")))
        if state.startswith("proved, at "):
            revision = state.removeprefix("proved, at ")
            reach("proved")
            databases.template(
                state, lambda url: at(as_if_verified_here(url)).migrates(revision) and None, "proved"
            )
            return at(as_if_verified_here(clone(state)))
        if state in ("migrated", "erased"):
            databases.template("migrated", migrate, "settled")
        if state == "erased":
            databases.template("erased", lambda url: at(url).types("erase", expect=None) and None, "migrated")
        return at(clone("small demo" if state == "demo" else state))

    return reach


@pytest.fixture
def fresh_demo(operator_of: Callable[[str], Operator]) -> Operator:
    """A demo database on which nothing was run."""
    return operator_of("demo")


@pytest.fixture
def finished_run(operator_of: Callable[[str], Operator]) -> Operator:
    """``backfill run`` has come to its end; texts that are no address wait in the quarantine."""
    return operator_of("run")


@pytest.fixture
def settled_run(operator_of: Callable[[str], Operator]) -> Operator:
    """Nothing waits in the quarantine any more; nothing was verified."""
    return operator_of("settled")


@pytest.fixture
def proved_run(operator_of: Callable[[str], Operator]) -> Operator:
    """The last verification was green."""
    return operator_of("proved")


@pytest.fixture
def migrated(operator_of: Callable[[str], Operator]) -> Operator:
    """The raw columns are dropped; their bytes are all still there."""
    return operator_of("migrated")


@pytest.fixture
def erased(operator_of: Callable[[str], Operator]) -> Operator:
    """``backfill erase`` has rewritten everything; the WAL is the server's, so it may have filled up again."""
    return operator_of("erased")


@pytest.fixture
def still_server(server_url: str) -> Iterator[None]:
    """No autovacuum: in another test's database it would write that one's addresses to the common WAL."""
    query(server_url, "alter system set autovacuum = off")
    query(server_url, "select pg_reload_conf()")
    yield
    query(server_url, "alter system reset autovacuum")
    query(server_url, "select pg_reload_conf()")
