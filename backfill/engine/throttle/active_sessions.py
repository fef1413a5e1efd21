"""How busy the server is with others."""

from typing import Self

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.engine.throttle.sensor import Breach
from backfill.settings import Settings

ACTIVE = sql.SQL("""
    select count(*) from pg_stat_activity
     where state = 'active' and backend_type = 'client backend' and application_name <> 'backfill'
""")


class ActiveSessions:
    """Sessions of others that are at work at this moment."""

    name = "active-sessions"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Where the operator has set BACKFILL_MAX_ACTIVE_SESSIONS."""
        return cls(settings.max_active_sessions) if settings.max_active_sessions is not None else None

    def check(self, connection: Connection) -> Breach | None:
        """Whether more are at work than the limit allows."""
        active = int(value(connection, ACTIVE))
        if active <= self.limit:
            return None
        return Breach(self.name, f"{active} other sessions are active, limit {self.limit}")
