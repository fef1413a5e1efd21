"""Whatever else the operator wants to be asked."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.engine import value
from backfill.throttle.sensor import Breach


class OperatorQuery:
    """BACKFILL_HOLD_QUERY: a query whose first column says true to hold."""

    name = "operator-query"

    def __init__(self, query: str) -> None:
        self.query = query

    def check(self, connection: Connection) -> Breach | None:
        """Whether it says to hold."""
        if value(connection, sql.SQL(self.query)) is True:
            return Breach(self.name, "BACKFILL_HOLD_QUERY says to hold")
        return None
