"""How busy the server is with others."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.engine.throttle.sensor import Breach

ACTIVE = sql.SQL("""
    select count(*) from pg_stat_activity
     where state = 'active' and backend_type = 'client backend' and application_name <> 'backfill'
""")


class ActiveSessions:
    """Sessions of others that are at work at this moment."""

    name = "active-sessions"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def check(self, connection: Connection) -> Breach | None:
        """Whether more are at work than the limit allows."""
        active = int(value(connection, ACTIVE))
        if active <= self.limit:
            return None
        return Breach(self.name, f"{active} other sessions are active, limit {self.limit}")
