"""Actual: what a run did cost, noted beside what was predicted when it began."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.connection import value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.quoting import quoted_table
from backfill.database.session import LEAST_CONNECT_SECONDS, connecting_within
from backfill.database.timeouts import Timeouts
from backfill.ledger import runs
from backfill.plan import Job
from backfill.shadow import names

WHOLE = sql.SQL("select coalesce(pg_total_relation_size(to_regclass(%s)), 0)")
WRITTEN = sql.SQL("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
PATIENCE_SECONDS = 0.2  # a size asks for a lock, and a signal has promised an end within two seconds


class Fact:
    """Of one attempt, from its start to the end of the block; hears the events of its driver. Attempts add up, the time between them does not count.

    WAL is the server's: whatever others wrote meanwhile is in it. Nothing here may end a run.
    """

    def __init__(self, engine: Engine, jobs: Sequence[Job], predicted: Mapping[str, Any] | None) -> None:
        self._engine, self._jobs, self._predicted = engine, jobs, predicted
        self._run: int | None = None
        self._began = 0.0
        self._wal = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def hears(self, event: str, **fields: Any) -> None:
        """``started`` begins the account."""
        if event != "started":
            return
        self._began = time.monotonic()
        with contextlib.suppress(*DRIVER_ERRORS), self._engine.connect() as connection:
            before = self._bytes(connection)
            with connection.begin():
                run = runs.get(connection, fields["run"])
                self._wal = int(value(connection, WRITTEN))
                if run.outcome is None:
                    outcome = {"seconds": 0.0, "wal": 0, "growth": None, "bytes": before}
                    runs.note(connection, run.id, forecast=self._predicted, outcome=outcome)
            self._run = run.id

    def end(self) -> None:
        """Of the attempt, however it ended."""
        if self._run is None:
            return
        with (
            contextlib.suppress(*DRIVER_ERRORS),
            connecting_within(LEAST_CONNECT_SECONDS),  # the server may be why it ended
            self._engine.connect() as connection,
        ):
            after = self._bytes(connection)
            with connection.begin():
                so_far = runs.get(connection, self._run).outcome or {}
                before = so_far.get("bytes")
                outcome = {
                    "seconds": round(so_far.get("seconds", 0) + time.monotonic() - self._began, 3),
                    # A server that was promoted meanwhile goes on counting where the other was.
                    "wal": so_far.get("wal", 0) + max(0, int(value(connection, WRITTEN)) - self._wal),
                    "growth": so_far.get("growth") if before is None or after is None else after - before,
                    "bytes": before,
                }
                runs.note(connection, self._run, outcome=outcome)

    def _bytes(self, connection: Connection) -> int | None:
        """Tables with indexes and TOAST, copies and old tables among them; None where one is locked now."""
        parts = [part for job in self._jobs for part in (job, names.shadow(job), names.before(job))]
        try:
            with connection.begin():
                Timeouts(lock=PATIENCE_SECONDS).apply(connection)
                return sum(int(value(connection, WHOLE, (quoted_table(part),))) for part in parts)
        except DRIVER_ERRORS:
            return None
