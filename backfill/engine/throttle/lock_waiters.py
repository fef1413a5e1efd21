"""Sessions of others that wait for locks of ours."""

from typing import Self

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.engine.throttle.sensor import Breach
from backfill.settings import Settings

WAITERS = sql.SQL("""
    with ours as materialized (
        select array_agg(pid) as pids from pg_stat_activity
         where application_name = 'backfill' and datname = current_database()
    )
    select count(*)
      from pg_stat_activity as waiter, ours
     where waiter.wait_event_type = 'Lock' and waiter.datname = current_database()
       and not waiter.pid = any(ours.pids)
       and pg_blocking_pids(waiter.pid) && ours.pids
""")


class LockWaiters:
    """Counted by session; a moment's wait of a few is normal, a queue is not."""

    name = "lock-waiters"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Where the operator has set BACKFILL_MAX_LOCK_WAITERS."""
        return cls(settings.max_lock_waiters) if settings.max_lock_waiters is not None else None

    def check(self, connection: Connection) -> Breach | None:
        """Whether more wait than the limit allows."""
        waiting = int(value(connection, WAITERS))
        if waiting <= self.limit:
            return None
        return Breach(self.name, f"{waiting} sessions wait for locks that we hold, limit {self.limit}")
