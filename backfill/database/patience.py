"""Patience: a schema change asks for its lock a moment at a time, and tries again.

A request that waits for a strong lock queues everybody else behind it: no wait may be long.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg2
from psycopg2 import errorcodes, sql
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from backfill.database.engine import execute, sqlstate_of

ATTEMPTS = 20  # a minute or two of jittered tries
AGAIN = {errorcodes.LOCK_NOT_AVAILABLE, errorcodes.DEADLOCK_DETECTED, errorcodes.SERIALIZATION_FAILURE}

Result = TypeVar("Result")


def lock_was_refused(error: BaseException) -> bool:
    """Whether the same transaction may get its lock a moment later."""
    return isinstance(error, (DBAPIError, psycopg2.Error)) and sqlstate_of(error) in AGAIN


def patiently(
    engine: Engine,
    timeout_ms: int,
    change: Callable[[Connection], Result],
    *,
    between: Callable[[RetryCallState], None] | None = None,
    attempts: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Run *change* in a transaction of its own, with that lock timeout, as often as it takes.

    *between* is called before every further try, and *sleep* waits for it. Raises the driver's error after the last.
    """
    for attempt in Retrying(
        retry=retry_if_exception(lock_was_refused),
        stop=stop_after_attempt(attempts or ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        before_sleep=between,
        sleep=sleep,
        reraise=True,
    ):
        with attempt, engine.begin() as connection:
            execute(connection, sql.SQL("set local lock_timeout = {}").format(sql.Literal(f"{timeout_ms}ms")))
            return change(connection)
    raise AssertionError("unreachable")  # Retrying either returns or raises
