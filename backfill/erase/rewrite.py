"""Rewrite: one table into new files, its TOAST and indexes with it.

VACUUM FULL writes NULL for a dropped attribute in every row that it copies, those included that an
old snapshot still holds; UPDATE and plain VACUUM leave nearly all copies where they are (FACTS
measured 4,969 of 5,000). pg_repack does the same beside the living table, with a short lock at the end.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import psycopg2
from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import driver, execute, value
from backfill.database.lock_retry import (
    lock_attempts,
    lock_holders,
    lock_was_refused,
    say_busy,
    send_vacuum_away,
)
from backfill.database.quoting import quoted
from backfill.engine import signals
from backfill.erase.targets import Target
from backfill.errors import NotRewritten, TableBusy
from backfill.settings import environment_without_secrets

BYTES_A_SECOND = 60_000_000  # measured 70-80 MB/s for VACUUM FULL with two indexes, on two cores
REPACK_FOLDERS = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin")


class Method(StrEnum):
    """How a table is rewritten; kept in the ledger."""

    VACUUM = "vacuum full"  # nobody reads or writes the table meanwhile
    REPACK = "pg_repack"  # writers go on; two short locks


def seconds(target: Target) -> int:
    """About how long VACUUM FULL holds its lock."""
    return max(1, round(target.size / BYTES_A_SECOND))


def repack_client(connection: Connection) -> Path | None:
    """The pg_repack program, where its extension is in this database too."""
    if not value(connection, sql.SQL("select 1 from pg_extension where extname = 'pg_repack'")):
        return None
    major = driver(connection).server_version // 10_000
    folders = [folder.format(major=major) for folder in REPACK_FOLDERS]
    found = shutil.which("pg_repack", path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    return Path(found) if found else None


def vacuum_full(
    connection: Connection, target: Target, lock_timeout_ms: int, tell: Callable[[str], None]
) -> None:
    """Rewrite in place; *connection* is in autocommit. Raises ``TableBusy``, ``NotRewritten``."""

    def holders() -> str:
        return lock_holders(connection, str(target.oid)) or "sessions that come and go"

    execute(connection, sql.SQL("set lock_timeout = {}").format(sql.Literal(f"{lock_timeout_ms}ms")))
    # Cancelled half-way, a rewrite begins anew: an operator's default is for the live site's queries.
    execute(connection, sql.SQL("set statement_timeout = 0"))
    try:
        for attempt in lock_attempts(say_busy(target.name, tell, holders)):
            with attempt:
                _send_vacuum_away(connection, target)
                execute(connection, sql.SQL("vacuum (full) {}").format(target.identifier))
    except psycopg2.Error as error:
        if not lock_was_refused(error):
            raise
        raise TableBusy(table=target.name, holders=holders()) from error
    # Without the right to do it, VACUUM warns and goes on; only the file tells.
    if filenode(connection, target.oid) == target.filenode:
        raise NotRewritten(table=target.name, method=Method.VACUUM)


def _send_vacuum_away(connection: Connection, target: Target) -> None:
    """In a transaction of its own, which VACUUM cannot be part of: another one comes after a minute, not at once."""
    execute(connection, sql.SQL("begin"))
    try:
        send_vacuum_away(connection, [target.identifier])
    finally:
        execute(connection, sql.SQL("commit"))


def repack(connection: Connection, target: Target, client: Path) -> None:
    """Rewrite beside the living table, by pg_repack's own program. Raises ``NotRewritten``."""
    where = driver(connection).info
    settings = {
        "PGHOST": where.host,
        "PGPORT": str(where.port),
        "PGUSER": where.user,
        "PGDATABASE": where.dbname,
        "PGPASSWORD": where.password,
        "PGOPTIONS": "-c client_connection_check_interval=1s",
    }
    done = signals.call(
        [
            str(client),
            "--no-kill-backend",
            "--no-order",
            *([] if _superuser(connection) else ["--no-superuser-check"]),
            "--table",
            quoted(target.schema, target.table),
        ],
        env=environment_without_secrets() | {name: text for name, text in settings.items() if text},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode != 0 or filenode(connection, target.oid) == target.filenode:
        raise NotRewritten(table=target.name, method=Method.REPACK)


def filenode(connection: Connection, oid: int) -> int:
    """The number of the table's file now."""
    return int(value(connection, sql.SQL("select pg_relation_filenode(%s::oid)::bigint"), (oid,)) or 0)


def _superuser(connection: Connection) -> bool:
    return bool(value(connection, sql.SQL("select current_setting('is_superuser') = 'on'")))
