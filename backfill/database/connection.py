"""One way to the server: URL, engine, session settings, and the few calls SQLAlchemy Core lacks.

Addresses go to the server by COPY into text columns alone: psycopg2 writes bound values into the
statement text, which reaches the server log and ``pg_stat_activity``.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2 import errorcodes, sql
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import Pool

from backfill.database import binary_copy, session
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.error_text import problem_of as problem_of
from backfill.database.error_text import sqlstate_of as sqlstate_of
from backfill.database.search_path import ORIGIN
from backfill.errors import (
    DatabaseFailed,
    TextUndecodable,
)

UNDECODABLE = (errorcodes.UNTRANSLATABLE_CHARACTER, errorcodes.CHARACTER_NOT_IN_REPERTOIRE)

# A crash may lose the last half second of transactions, rows and checkpoint alike: they are done again.
ASYNCHRONOUS = sql.SQL("set local synchronous_commit = off")


def make_engine(url: URL, *, ledger_schema: str | None = None, poolclass: type[Pool] | None = None) -> Engine:
    """An engine whose sessions are opened by ``session``, and whose ledger tables live in *ledger_schema*."""
    engine = create_engine(
        url,
        hide_parameters=True,
        **({"poolclass": poolclass} if poolclass else {"pool_size": 2, "max_overflow": -1}),
        pool_pre_ping=True,  # a pooled connection may have died with the server between two batches
        execution_options={"schema_translate_map": {None: ledger_schema}} if ledger_schema else {},
    )

    # In place of the driver's own: SQLAlchemy asks a new connection a few things before "connect" is told.
    @event.listens_for(engine, "do_connect")
    def _open(_dialect: Any, record: Any, _words: Any, parameters: dict[str, Any]) -> Any:
        connection, origin = session.connect(**parameters)
        record.info[ORIGIN] = origin.without(ledger_schema) if ledger_schema else origin
        return connection

    return engine


def server_codec(connection: Connection) -> str:
    """Python's name for the encoding of the database; what it lacks, no column of it can hold."""
    name = str(value(connection, sql.SQL("show server_encoding")))
    return str(psycopg2.extensions.encodings.get(name, "ascii"))


def driver(connection: Connection) -> Any:
    """The psycopg2 connection beneath; its type is untyped in SQLAlchemy."""
    return connection.connection.driver_connection


def execute(
    connection: Connection, statement: sql.Composable, values: Any = None
) -> psycopg2.extensions.cursor:
    """Run a composed statement in *connection*'s transaction and return its cursor."""
    if not connection.in_transaction():
        connection.begin()  # psycopg2 opens one anyway; SQLAlchemy has to know, or commit() does nothing
    cursor: psycopg2.extensions.cursor = driver(connection).cursor()
    if values is not None:
        statement = _without_placeholders(statement, cursor)
    cursor.execute(statement, values)
    return cursor


def _without_placeholders(part: sql.Composable, cursor: psycopg2.extensions.cursor) -> sql.Composable:
    """*part* with each % of a name or literal doubled: beside values, the driver takes one for a placeholder."""
    if isinstance(part, sql.Composed):
        return sql.Composed([_without_placeholders(each, cursor) for each in part.seq])
    if isinstance(part, sql.Identifier | sql.Literal):
        return sql.SQL(part.as_string(cursor).replace("%", "%%"))
    return part


def value(connection: Connection, statement: sql.Composable, values: Any = None) -> Any:
    """The first column of the first row; ``None`` where there is none."""
    with execute(connection, statement, values) as cursor:
        row = cursor.fetchone()
    return row[0] if row else None


def rows(connection: Connection, statement: sql.Composable, values: Any = None) -> list[tuple[Any, ...]]:
    """All rows."""
    with execute(connection, statement, values) as cursor:
        return cursor.fetchall()


def as_text(connection: Connection, moment: Any) -> str | None:
    """A time as the server itself writes it, so that it compares equal there later."""
    return None if moment is None else str(value(connection, sql.SQL("select (%s)::text"), (moment,)))


def copy_in(
    connection: Connection,
    into: sql.Composable,
    columns: Sequence[str],
    records: Iterable[Sequence[str | bytes | bool | None]],
) -> int:
    """COPY *records* into the text, jsonb (bytes) and boolean *columns* of *into*; returns their number.

    Binary: a text COPY that is cancelled, or whose session is terminated, writes the line that it
    was reading to the server log.
    """
    stream = binary_copy.Stream(binary_copy.row(*map(_field, record)) for record in records)
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        into, sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    if not connection.in_transaction():
        connection.begin()
    with driver(connection).cursor() as cursor:
        cursor.copy_expert(statement, stream, size=binary_copy.CHUNK_BYTES)
    return stream.count


def _field(value: str | bytes | bool | None) -> bytes:
    if value is None:
        return binary_copy.NULL
    if isinstance(value, str):
        return binary_copy.text(value)
    return binary_copy.boolean(value) if isinstance(value, bool) else binary_copy.jsonb(value)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the driver raises into ``DatabaseFailed`` or ``TextUndecodable``, once, at the edge."""
    try:
        yield
    except UnicodeDecodeError as error:  # files are read where their errors are told; this is the driver's
        raise TextUndecodable from error
    except DRIVER_ERRORS as error:
        if sqlstate_of(error) in UNDECODABLE:
            raise TextUndecodable from error
        raise DatabaseFailed(
            problem=problem_of(error), sqlstate=sqlstate_of(error) or "connection lost"
        ) from error
