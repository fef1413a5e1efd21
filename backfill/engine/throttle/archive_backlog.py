"""How many WAL files wait for the archiver: when it falls behind, pg_wal fills the disk."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.engine.throttle.sensor import Breach

WAITING = sql.SQL(r"select count(*) from pg_ls_archive_statusdir() where name like '%%.ready'")


class ArchiveBacklog:
    """Files marked ``.ready``; needs pg_monitor."""

    name = "archive-backlog"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def check(self, connection: Connection) -> Breach | None:
        """Whether more wait than the limit allows."""
        waiting = int(value(connection, WAITING, ()))
        if waiting <= self.limit:
            return None
        return Breach(self.name, f"{waiting} WAL files wait for the archiver, limit {self.limit}")
