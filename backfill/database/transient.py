"""Transient errors: which errors of the database pass by themselves, and how often each is retried.

Nothing else is ever retried: an error that would come again hides behind its retries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import psycopg2
from psycopg2 import errorcodes
from sqlalchemy.exc import DBAPIError

from backfill.database.connection import sqlstate_of


class TransientError(StrEnum):
    """A kind of error that passes; the names are counted in the ledger, so they are stable."""

    SERIALIZATION = "serialization-failure"
    DEADLOCK = "deadlock"
    LOCK_TIMEOUT = "lock-timeout"
    STATEMENT_TIMEOUT = "statement-timeout"  # or somebody's pg_cancel_backend
    COLLISION = (
        "unique-collision"  # somebody else wrote, at the same moment, a row that a unique index holds equal
    )
    TABLE_LOCKED = "table-locked"  # the whole table: smaller batches would not help
    CONNECTION_LOST = "connection-lost"  # a server that restarts or crashed, a cut line, a terminated session
    READ_ONLY = "read-only"  # a fail-over under way: we are still talking to the old primary, or to a standby


@dataclass(frozen=True)
class Limit:
    """How long to try: *attempts* in all, or for as long as the operator's patience lasts."""

    attempts: int | None  # None: BACKFILL_PATIENCE


LIMITS: Mapping[TransientError, Limit] = {
    TransientError.SERIALIZATION: Limit(10),
    TransientError.DEADLOCK: Limit(10),
    TransientError.COLLISION: Limit(10),
    TransientError.LOCK_TIMEOUT: Limit(3),  # then half the batch: the locked row ends up alone in a block
    TransientError.STATEMENT_TIMEOUT: Limit(3),  # then half the batch
    TransientError.TABLE_LOCKED: Limit(None),
    TransientError.CONNECTION_LOST: Limit(None),
    TransientError.READ_ONLY: Limit(None),
}

TIMEOUTS = frozenset({TransientError.LOCK_TIMEOUT, TransientError.STATEMENT_TIMEOUT})
LOST = frozenset({TransientError.CONNECTION_LOST, TransientError.READ_ONLY})

STATES: Mapping[str, TransientError] = {
    errorcodes.SERIALIZATION_FAILURE: TransientError.SERIALIZATION,
    errorcodes.DEADLOCK_DETECTED: TransientError.DEADLOCK,
    errorcodes.LOCK_NOT_AVAILABLE: TransientError.LOCK_TIMEOUT,
    errorcodes.QUERY_CANCELED: TransientError.STATEMENT_TIMEOUT,
    errorcodes.READ_ONLY_SQL_TRANSACTION: TransientError.READ_ONLY,
    errorcodes.ADMIN_SHUTDOWN: TransientError.CONNECTION_LOST,
    errorcodes.CRASH_SHUTDOWN: TransientError.CONNECTION_LOST,
    errorcodes.CANNOT_CONNECT_NOW: TransientError.CONNECTION_LOST,
    errorcodes.TOO_MANY_CONNECTIONS: TransientError.CONNECTION_LOST,
    errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT: TransientError.CONNECTION_LOST,
}


class TableLocked(Exception):
    """Somebody holds a lock on the whole table; ours was not granted in time."""


class RowsRaced(Exception):
    """A row came that a unique index holds equal to one that was about to be written."""

    def __init__(self, job: str, key: str | None) -> None:
        super().__init__(
            f"unique index {key} of {job} has the new value of a row already, since somebody wrote at the same moment"
        )


def transient_error_of(error: BaseException) -> TransientError | None:
    """The kind of *error*; None for one that would come again."""
    if isinstance(error, TableLocked):
        return TransientError.TABLE_LOCKED
    if isinstance(error, RowsRaced):
        return TransientError.COLLISION
    origin = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(origin, psycopg2.Error):
        return None
    state = sqlstate_of(error)
    if state is None or state.startswith("08"):
        # libpq itself has no code for a connection that broke, or that it did not get.
        lost = isinstance(origin, (psycopg2.OperationalError, psycopg2.InterfaceError))
        broken = isinstance(error, DBAPIError) and error.connection_invalidated
        # "server closed the connection unexpectedly" in the middle of a COPY is a bare DatabaseError.
        return (
            TransientError.CONNECTION_LOST
            if lost or broken or type(origin) is psycopg2.DatabaseError
            else None
        )
    return STATES.get(state)
