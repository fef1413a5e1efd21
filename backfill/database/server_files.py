"""The server's own files: whether they lie on this machine, and where."""

import struct
from pathlib import Path

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value

CLOCK_SECONDS = 3  # the pid file is written a moment before the server notes its own start


def local_data_directory(connection: Connection) -> Path | None:
    """The data folder, if it is on this machine and we may read it; ``None`` where that is not sure.

    A path alone proves nothing: another server may lie there on this machine. The cluster's identifier
    has to be the same (a standby or a backup shares it), and the start of the running server.
    """
    # pg_settings hides the row from who may not read it; current_setting() would raise.
    path = value(connection, sql.SQL("select setting from pg_settings where name = 'data_directory'"))
    if not path:
        return None
    folder = Path(path)
    try:
        with (folder / "global" / "pg_control").open("rb") as control:
            (identifier,) = struct.unpack("=Q", control.read(8))
        began = int((folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()[2])
    except (OSError, ValueError, IndexError, struct.error):
        return None
    known = value(connection, sql.SQL("select system_identifier from pg_control_system()"))
    started = value(connection, sql.SQL("select extract(epoch from pg_postmaster_start_time())::bigint"))
    same = identifier == known % 2**64 and abs(began - started) <= CLOCK_SECONDS
    return folder if same else None
