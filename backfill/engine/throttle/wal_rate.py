"""How fast the whole server writes WAL, ours included."""

import time
from collections import deque
from typing import Self

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.engine.throttle.sensor import Breach
from backfill.settings import Settings

WINDOW_SECONDS = 5.0  # a checkpoint's full-page images come in bursts
MB = 1024 * 1024


class WalRate:
    """Megabytes a second, averaged over a few."""

    name = "wal-rate"

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._samples: deque[tuple[float, int]] = deque()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Where the operator has set BACKFILL_MAX_WAL_RATE."""
        return cls(settings.max_wal_rate) if settings.max_wal_rate is not None else None

    def check(self, connection: Connection) -> Breach | None:
        """Whether more is written than the limit allows."""
        written = int(value(connection, sql.SQL("select (pg_current_wal_lsn() - '0/0')::bigint")))
        clock = time.monotonic()
        self._samples.append((clock, written))
        while len(self._samples) > 2 and self._samples[1][0] <= clock - WINDOW_SECONDS:
            self._samples.popleft()
        first, before = self._samples[0]
        if clock <= first:
            return None
        rate = (written - before) / MB / (clock - first)
        if rate <= self.limit:
            return None
        return Breach(self.name, f"the server writes {rate:.1f} MB of WAL a second, limit {self.limit:g} MB")
