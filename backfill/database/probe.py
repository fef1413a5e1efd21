"""Probe: one statement on a session of its own, with an end in time whatever the server does.

libpq waits for an answer without end, and its own cancel request does so with Python's lock held: a
stopped server would stop every thread of ours. So the session is asynchronous, and the waiting is done here.
"""

import contextlib
import select
import time
from collections.abc import Sequence
from typing import Any

import psycopg2
import psycopg2.extensions

CANCEL = "select pg_catalog.pg_cancel_backend(pid) from pg_catalog.unnest(%s) as pid"


class NoAnswer(Exception):
    """The server did not answer in time."""


def ask(dsn: str, statement: str, values: Sequence[Any] | None, seconds: float) -> list[tuple[Any, ...]]:
    """The rows of *statement*. Raises ``NoAnswer``, and what the driver raises: that is an answer too."""
    end = time.monotonic() + seconds
    connection = psycopg2.connect(dsn, async_=1)
    try:
        _wait(connection, end)
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            _wait(connection, end)
            found: list[tuple[Any, ...]] = cursor.fetchall()
        return found
    finally:
        connection.close()


def _wait(connection: Any, end: float) -> None:
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        left = end - time.monotonic()
        if left <= 0:
            raise NoAnswer
        reads = [connection] if state == psycopg2.extensions.POLL_READ else []
        writes = [connection] if state == psycopg2.extensions.POLL_WRITE else []
        select.select(reads, writes, [], left)


def cancel(dsn: str, pids: Sequence[int], seconds: float) -> None:
    """Cancel what these sessions of ours are doing, as far as the server can be reached."""
    with contextlib.suppress(NoAnswer, psycopg2.Error):
        ask(dsn, CANCEL, (list(pids),), seconds)
