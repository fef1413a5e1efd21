"""Disk: is there room for a second table, its indexes, and the WAL of both?"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.connection import rows, value
from backfill.database.quoting import regclass
from backfill.errors import DiskTooFull
from backfill.ledger import shadows
from backfill.plan import Job

MB = 1024 * 1024
GROWTH = 1.6  # a geoip_info adds about 200 bytes to an event of 300, a link 16
WAL = 1.3  # of the table and its indexes: measured 1,018 MB for 745 + 84, checkpoints included


def needed(connection: Connection, job: Job) -> int:
    """Bytes that a copy takes while it is made."""
    statement = sql.SQL("select pg_table_size({0}) * {1} + pg_indexes_size({0})").format(
        regclass(job), sql.Literal(GROWTH)
    )
    size = float(value(connection, statement))
    return int(size * (1 + WAL))


def free(connection: Connection) -> int | None:
    """Free bytes where the server keeps its data; None when it is another machine's, or not told to us.

    Only a superuser is told the folder, and only on the server's own machine does it mean anything:
    its postmaster.pid has to name the process that the server says it is.
    """
    found = rows(
        connection,
        sql.SQL("select setting from pg_settings where name = 'data_directory' and setting is not null"),
    )
    if not found:
        return None
    folder = Path(found[0][0])
    started = value(connection, sql.SQL("select extract(epoch from pg_postmaster_start_time())::bigint"))
    try:
        told = (folder / "postmaster.pid").read_text().splitlines()
        return shutil.disk_usage(folder).free if abs(int(told[2]) - int(started)) <= 1 else None
    except (OSError, IndexError, ValueError):
        return None


def require_disk(engine: Engine, schema: str, jobs: Sequence[Job]) -> None:
    """Raises ``DiskTooFull`` when the copies that are still to be made would not fit."""
    with engine.begin() as connection:
        room = free(connection)
        if room is None:
            return
        for job in jobs:
            if shadows.of(connection, job) is not None:
                continue
            takes = needed(connection, job)
            if takes > room:
                raise DiskTooFull(table=job.name, needed=takes // MB, free=room // MB)
            room -= takes
