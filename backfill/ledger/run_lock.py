"""The run's lock: only one command drives runs or settles rows at a time.

A session lock (``locks``) on a connection of its own: the server frees it the moment that we are gone. The
driver's heartbeat goes through this very connection, so that a lost lock is noticed within a beat.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2
import psycopg2.errors
from psycopg2 import sql
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from backfill.database.connection import value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.session import connecting_within
from backfill.database.transient import LOST, transient_error_of
from backfill.errors import NoRun, RunInProgress
from backfill.ledger import locks, runs
from backfill.ledger.locks import Holder

BEAT_SECONDS = 1.0

READ_ONLY = sql.SQL("select current_setting('transaction_read_only')")


def is_driven(connection: Connection, schema: str) -> bool:
    """Whether a process holds the lock at this moment."""
    return locks.holder(connection, schema, locks.RUN) is not None


class RunLock:
    """The lock, taken and lost and taken again; its thread keeps the heart beating."""

    def __init__(self, engine: Engine, schema: str) -> None:
        self._engine, self._schema = engine, schema
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._key = 0
        self._done = threading.Event()
        self.lost = threading.Event()

    def take(self) -> bool:
        """Whether it is ours now. Raises what a connection raises."""
        self.drop()
        connection = self._engine.connect()
        try:
            taken = locks.take(connection, self._schema, locks.RUN)
            if not isinstance(taken, Holder):
                self._connection, self._key = connection, taken
                self.lost.clear()
                return True
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        connection.close()
        return False

    def writable(self) -> bool:
        """Whether its session may write: a primary that steps down, or a standby, answers and may not."""
        if self._connection is None:
            return False
        answer = value(self._connection, READ_ONLY)
        self._connection.rollback()
        return bool(answer == "off")

    def drop(self) -> None:
        """Give it back, where we have it."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # A broken connection would quietly become another one, which has no lock to give.
        with contextlib.suppress(SQLAlchemyError, psycopg2.Error):
            if not self.lost.is_set() and not connection.invalidated:
                locks.give(connection, self._key)
        with contextlib.suppress(SQLAlchemyError, psycopg2.Error):
            connection.invalidate()
        connection.close()

    def beat_for(self, run_id: int) -> None:
        """Begin to show, once a second, that that run's driver lives."""
        if self._thread is not None:
            return
        self._done.clear()
        self._thread = threading.Thread(target=self._beat, args=(run_id,), daemon=True)
        self._thread.start()

    def _beat(self, run_id: int) -> None:
        connection = self._connection
        while connection is not None and not self._done.wait(BEAT_SECONDS):
            try:
                runs.beat(connection, run_id)
                connection.commit()
            except DRIVER_ERRORS as error:
                if transient_error_of(error) in LOST or connection.invalidated:
                    self.lost.set()
                    return
                with contextlib.suppress(*DRIVER_ERRORS):
                    connection.rollback()  # the row was locked for long: the next beat will do


def in_progress(engine: Engine, schema: str) -> RunInProgress:
    """Who has the lock, as an error."""
    with engine.begin() as connection:
        session = locks.holder(connection, schema, locks.RUN) or "which has just ended"
        try:
            run = runs.latest(connection)
        except NoRun:  # the other one has not come to its first row yet
            return RunInProgress(run="1", holder="just beginning", session=session)
    return RunInProgress(run=run.id, holder=run.holder, session=session)


@contextmanager
def run_lock(engine: Engine, schema: str) -> Iterator[RunLock]:
    """The lock for as long as the block lasts. Raises ``RunInProgress``."""
    lock = RunLock(engine, schema)
    if not lock.take():
        raise in_progress(engine, schema)
    try:
        yield lock
    finally:
        lock.drop()


def wait_for(
    lock: RunLock, sleep: Callable[[float], None], patience: float, tell: Callable[[str], None]
) -> bool:
    """Take *lock* again after the server was lost; False when somebody has had it all the time.

    The session that we lost may still be there for its server, lock included, until a timeout of
    the network. Raises what the last try raised, where the server did not come back.
    """
    end = time.monotonic() + patience
    pause, told = 0.1, False
    while True:
        try:
            problem: Exception | None = None
            with connecting_within(end - time.monotonic()):
                taken = lock.take()
            if taken:
                if lock.writable():
                    return True
                lock.drop()
                problem = psycopg2.errors.ReadOnlySqlTransaction("it is read-only")
        except DRIVER_ERRORS as error:
            if transient_error_of(error) not in LOST:
                raise
            problem = error
        if time.monotonic() > end:
            if problem is not None:
                raise problem
            return False
        if not told:
            tell("The server is not there, or read-only; waiting for it.")
            told = True
        sleep(pause)
        pause = min(pause * 1.5, 2.0)
