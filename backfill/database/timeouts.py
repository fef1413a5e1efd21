"""Timeouts: how long a transaction of a batch may work, and wait for a row."""

from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import driver, execute

LOCK_SECONDS = 2.0  # whoever waits here holds the rows of its batch all the while


@dataclass(frozen=True)
class Timeouts:
    """Of one transaction: *statement* and *lock* in seconds."""

    statement: float = 30.0  # well under the term of a lease
    lock: float = LOCK_SECONDS

    def apply(self, connection: Connection) -> None:
        """To the transaction that begins here, and to no other."""
        driver(connection).limit = self.statement  # where the server itself does not keep it: ``watchdog``
        execute(
            connection,
            sql.SQL("set local statement_timeout = {}; set local lock_timeout = {}").format(
                sql.Literal(max(1, int(self.statement * 1000))), sql.Literal(max(1, int(self.lock * 1000)))
            ),
        )
