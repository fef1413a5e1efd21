"""Disk: the free space where the server keeps its data, where that can be known."""

import shutil

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.database.server_files import local_data_directory


def free_bytes(connection: Connection, tablespace: int = 0) -> int | None:
    """Free bytes where that tablespace lies, 0 for the database's; ``None`` when its disk cannot be seen from here."""
    folder = local_data_directory(connection)
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
