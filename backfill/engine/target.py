"""Target: the database to work on, reached and found fit for our work.

The embedded server is started when no database is named.
"""

from psycopg2 import sql
from sqlalchemy import URL, Engine, make_url

from backfill.database import watchdog
from backfill.database.connection import driver, make_engine, value
from backfill.database.error_text import DRIVER_ERRORS, problem_of
from backfill.database.owners import require_trusted_ledger
from backfill.database.urls import parse, shown
from backfill.embedded import EmbeddedServer
from backfill.errors import (
    BackfillError,
    DatabaseUnreachable,
    EncodingUnfit,
    PoolerInTheWay,
    ServerTooOld,
)
from backfill.settings import Settings

OLDEST_SERVER = 140_000  # TID range scans and hashtid() came with PostgreSQL 14


def target_url(settings: Settings) -> URL:
    """The database to work on; starts the embedded server when none is named. Raises ``SettingInvalid``."""
    if settings.database_url is None:
        return make_url(EmbeddedServer(settings.home).ensure())
    return parse(settings.database_url.get_secret_value(), "BACKFILL_DATABASE_URL")


def open_engine(settings: Settings) -> Engine:
    """The engine for *settings*, proved to reach a server that we can work with.

    Raises ``DatabaseUnreachable``, ``ServerTooOld``, ``PoolerInTheWay``, ``LedgerUntrusted``.
    """
    watchdog.configure(settings.silence)
    url = target_url(settings)
    engine = make_engine(url, ledger_schema=settings.ledger_schema)
    try:
        _check_server(engine)
        with engine.connect() as connection:
            require_trusted_ledger(connection, settings.ledger_schema, settings.ledger_owner)
    except DRIVER_ERRORS as error:
        engine.dispose()
        raise DatabaseUnreachable(url=shown(url), problem=problem_of(error)) from error
    except BackfillError:
        engine.dispose()
        raise
    return engine


def _check_server(engine: Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        version = driver(first).server_version
        if version < OLDEST_SERVER:
            raise ServerTooOld(version=version // 10_000)
        if driver(first).get_parameter_status("server_encoding") == "SQL_ASCII":
            raise EncodingUnfit
        # Two idle clients never share a server process, unless a proxy lends the same one to both.
        pids = set()
        for connection in (first, second):
            pids.add(value(connection, sql.SQL("select pg_backend_pid()")))
            connection.rollback()
        if len(pids) == 1:
            raise PoolerInTheWay
