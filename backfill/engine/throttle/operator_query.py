"""Whatever else the operator wants to be asked."""

from typing import Self

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute
from backfill.engine.throttle.sensor import Breach
from backfill.settings import Settings


class OperatorQuery:
    """BACKFILL_THROTTLE_QUERY: a query that says true to hold, false to go on; any other answer holds as well."""

    name = "operator-query"

    def __init__(self, query: str) -> None:
        self.query = query

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Where the operator has set BACKFILL_THROTTLE_QUERY."""
        return cls(settings.throttle_query) if settings.throttle_query else None

    def check(self, connection: Connection) -> Breach | None:
        """Whether it says to hold."""
        first = execute(connection, sql.SQL(self.query)).fetchone()
        answer = first[0] if first else None
        if answer is False:
            return None
        if answer is True:
            return Breach(self.name, "BACKFILL_THROTTLE_QUERY says to hold")
        what = (
            ("NULL" if first else "no row") if answer is None else f"a value of type {type(answer).__name__}"
        )
        return Breach(self.name, f"BACKFILL_THROTTLE_QUERY returned {what}, neither true nor false")
