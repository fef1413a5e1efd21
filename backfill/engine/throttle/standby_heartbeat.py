"""How far behind the standbys are that the operator named, as they see it themselves."""

from collections.abc import Sequence
from typing import Self

from psycopg2 import sql
from sqlalchemy import URL, Connection, Engine

from backfill.database.connection import make_engine, problem_of, value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.urls import parse, place
from backfill.engine.throttle.sensor import Breach
from backfill.settings import Settings

HEARTBEAT = sql.SQL("select max(heartbeat) from {}")


class StandbyHeartbeat:
    """The driver's heartbeat on the standby against the same on the primary: one clock, the primary's.

    Sees what ``pg_stat_replication`` does not: a standby behind a cascade, or cut off altogether.
    """

    name = "standby-heartbeat"

    def __init__(self, urls: Sequence[URL], ledger_schema: str, limit: float) -> None:
        self.limit = limit
        self._statement = HEARTBEAT.format(sql.Identifier(ledger_schema, "runs"))
        self._engines: list[tuple[str, Engine]] = [
            (place(url), make_engine(url, ledger_schema=ledger_schema)) for url in urls
        ]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Where the operator has set BACKFILL_STANDBY_URLS, and not switched the lag off."""
        if not settings.max_lag or settings.standby_urls is None:
            return None
        urls = [
            parse(url, "BACKFILL_STANDBY_URLS") for url in settings.standby_urls.get_secret_value().split()
        ]
        return cls(urls, settings.ledger_schema, settings.max_lag) if urls else None

    def check(self, connection: Connection) -> Breach | None:
        """The first standby beyond the limit, or out of reach."""
        here = value(connection, self._statement)
        for name, engine in self._engines:
            try:
                with engine.begin() as standby:
                    there = value(standby, self._statement)
            except DRIVER_ERRORS as error:
                return Breach(self.name, f"standby {name} cannot be asked: {problem_of(error)}")
            if here is None:
                continue
            if there is None:
                return Breach(self.name, f"standby {name} has not replayed the ledger yet")
            lag = (here - there).total_seconds()
            if lag > self.limit:
                return Breach(self.name, f"standby {name} lags {lag:.1f} s, limit {self.limit:g} s")
        return None
