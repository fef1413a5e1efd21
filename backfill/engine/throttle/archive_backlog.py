"""How many WAL files wait for the archiver: when it falls behind, pg_wal fills the disk."""

from typing import Self

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.engine.throttle.sensor import Breach
from backfill.settings import Settings

WAITING = sql.SQL(r"select count(*) from pg_ls_archive_statusdir() where name like '%%.ready'")


class ArchiveBacklog:
    """Files marked ``.ready``; needs pg_monitor."""

    name = "archive-backlog"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Where the operator has set BACKFILL_MAX_ARCHIVE_BACKLOG."""
        return cls(settings.max_archive_backlog) if settings.max_archive_backlog is not None else None

    def check(self, connection: Connection) -> Breach | None:
        """Whether more wait than the limit allows."""
        waiting = int(value(connection, WAITING, ()))
        if waiting <= self.limit:
            return None
        return Breach(self.name, f"{waiting} WAL files wait for the archiver, limit {self.limit}")
