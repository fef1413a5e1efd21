"""Disk: whether there is room for the second copy that a rewrite makes, where that can be known."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.database.server_files import local_data_directory
from backfill.erase.targets import Target
from backfill.errors import DiskTooSmall

MARGIN = 1.1  # the new copy, and WAL beside it


def free(connection: Connection, tablespace: int) -> int | None:
    """Free bytes where that tablespace lies; ``None`` when its disk cannot be seen from here."""
    folder: Path | None = local_data_directory(connection)
    if folder is None:
        return None
    location = value(
        connection,
        sql.SQL("""
            select pg_tablespace_location(coalesce(nullif(%s, 0)::oid,
                     (select dattablespace from pg_database where datname = current_database())))
        """),
        (tablespace,),
    )
    return shutil.disk_usage(folder / (location or "")).free  # an absolute location stays what it is


def require_room(connection: Connection, targets: Sequence[Target]) -> bool:
    """Whether room is known to be there; one table at a time, since each frees its old copy at its end.

    Raises ``DiskTooSmall``.
    """
    known = True
    for target in targets:
        needed = int(target.size * MARGIN)
        there = free(connection, target.tablespace)
        if there is None:
            known = False
        elif there < needed:
            raise DiskTooSmall(
                table=target.name, needed=f"{needed / 2**20:,.0f}", free=f"{there / 2**20:,.0f}"
            )
    return known
