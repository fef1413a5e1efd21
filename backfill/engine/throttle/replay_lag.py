"""How far behind each standby is, as the primary sees it."""

import time
from collections import deque
from typing import Self

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows, value
from backfill.engine.throttle.sensor import Breach
from backfill.settings import Settings

HISTORY_SECONDS = 600.0

NOW = sql.SQL("select (pg_current_wal_lsn() - '0/0')::bigint")
STANDBYS = sql.SQL("""
    select coalesce(nullif(application_name, ''), client_addr::text, pid::text),
           (replay_lsn - '0/0')::bigint, state
      from pg_stat_replication
     where state is distinct from 'backup'             -- a base backup under way is no standby
     order by 1
""")


class ReplayLag:
    """Seconds since the primary was where the standby is now.

    Measured by ourselves: ``replay_lag`` of the view stands still while replay is paused, which is
    when it is needed. Named by application_name: addresses of standbys are nobody's secret, but
    theirs is the name that operators know.
    """

    name = "replay-lag"

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._history: deque[tuple[float, int]] = deque()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Where the operator has set BACKFILL_MAX_LAG."""
        return cls(settings.max_lag) if settings.max_lag else None

    def check(self, connection: Connection) -> Breach | None:
        """The first standby beyond the limit."""
        clock, current = time.monotonic(), int(value(connection, NOW))
        if not self._history or current > self._history[-1][1]:
            self._history.append((clock, current))
        while len(self._history) > 1 and self._history[1][0] < clock - HISTORY_SECONDS:
            self._history.popleft()
        for standby, replayed, state in rows(connection, STANDBYS):
            if replayed is None and state is None:
                return Breach(
                    self.name,
                    "our role may not see how far the standbys are: grant pg_monitor, or set BACKFILL_MAX_LAG=0 to look away",
                )
            lag = self._lag(clock, -1 if replayed is None else replayed)
            if lag > self.limit:
                return Breach(self.name, f"replica {standby} lags {lag:.1f} s, limit {self.limit:g} s")
        return None

    def _lag(self, clock: float, replayed: int) -> float:
        """Since the first moment at which the primary had written more than *replayed*."""
        beyond = next((moment for moment, lsn in self._history if lsn > replayed), None)
        return 0.0 if beyond is None else clock - beyond
