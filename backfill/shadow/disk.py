"""Disk: is there room for a second table, its indexes, and the WAL of both?"""

from collections.abc import Sequence

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.connection import value
from backfill.database.disk import free_bytes
from backfill.database.quoting import regclass
from backfill.errors import DiskTooFull
from backfill.ledger import shadow_copies
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


def require_disk(engine: Engine, schema: str, jobs: Sequence[Job]) -> None:
    """Raises ``DiskTooFull`` when the copies that are still to be made would not fit."""
    with engine.begin() as connection:
        room = free_bytes(connection)
        if room is None:
            return
        for job in jobs:
            if shadow_copies.shadow_of(connection, job) is not None:
                continue
            takes = needed(connection, job)
            if takes > room:
                raise DiskTooFull(table=job.name, needed=takes // MB, free=room // MB)
            room -= takes
