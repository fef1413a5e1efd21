"""Vacuum: our own, of the table that is being linked, where nobody else does it.

Measured: without it heap and indexes grew by 105 %, with one every 100,000 rows by 30 %, at no cost
in time. Autovacuum does the same where it is on and keeps up.
"""

import contextlib
import threading
from collections.abc import Callable

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.connection import driver, make_engine, problem_of, value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.quoting import regclass, table
from backfill.raw_column import Table
from backfill.settings import Vacuum

EVERY_ROWS = 100_000

NEGLECTED = sql.SQL("""
    select current_setting('autovacuum') = 'off'
        or coalesce((select option_value = 'false' from pg_options_to_table(c.reloptions)
                      where option_name = 'autovacuum_enabled'), false)
        or coalesce(pg_stat_get_dead_tuples(c.oid) > greatest(c.reltuples, 0) * 0.4, false)  -- twice its threshold
      from pg_class as c where c.oid = {}
""")


class Vacuumer:
    """One VACUUM at a time, beside the workers: it takes no lock that they would meet."""

    def __init__(
        self, engine: Engine, schema: str, when: Vacuum, tell: Callable[[str], None] = print
    ) -> None:
        self._url, self._schema, self._when, self._tell = engine.url, schema, when, tell
        self._stopped = False
        self._written: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._said: set[tuple[str, str]] = set()
        self.done: dict[str, int] = {}  # vacuums by table

    def written(self, part: Table, rows: int) -> None:
        """*rows* more were written; begins a VACUUM when it is time."""
        self._written[part.name] = self._written.get(part.name, 0) + rows
        busy = self._thread is not None and self._thread.is_alive()
        if self._when is Vacuum.OFF or busy or self._written[part.name] < EVERY_ROWS:
            return
        self._written[part.name] = 0
        self._thread = threading.Thread(target=self._vacuum, args=(part,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Cancel what is under way; nothing is lost by that."""
        self._stopped, connection = True, self._connection
        if self._thread is not None and self._thread.is_alive() and connection is not None:
            with contextlib.suppress(*DRIVER_ERRORS):
                driver(connection).cancel()
            self._thread.join(1.0)

    def _vacuum(self, part: Table) -> None:
        engine = make_engine(self._url, ledger_schema=self._schema)
        # A VACUUM that is cancelled, or not allowed, or meets another one, is no reason to end a run.
        try:
            with engine.connect() as connection:
                self._connection = connection
                try:
                    self._vacuum_if_wanted(connection, part)
                except DRIVER_ERRORS as error:
                    connection.invalidate()  # it may be broken, and the pool would say so at length
                    self._say(part, problem_of(error))
        except DRIVER_ERRORS as error:
            self._say(part, problem_of(error))
        self._connection = None
        engine.dispose()

    def _vacuum_if_wanted(self, connection: Connection, part: Table) -> None:
        wanted = self._when is Vacuum.ON or value(connection, NEGLECTED.format(regclass(part)))
        connection.rollback()
        if not wanted:
            return
        session = driver(connection)
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(sql.SQL("vacuum (skip_locked) {}").format(table(part)))
        session.autocommit = False
        # Not the owner, or locked: the server warns, does nothing, and calls that success.
        skipped = next((notice.strip() for notice in session.notices if "skipping" in notice), None)
        if skipped is None:
            self.done[part.name] = self.done.get(part.name, 0) + 1
        else:
            self._say(part, skipped.removeprefix("WARNING:").strip())

    def _say(self, part: Table, problem: str) -> None:
        if not self._stopped and (part.name, problem) not in self._said:
            self._said.add((part.name, problem))
            self._tell(f"Our own VACUUM of {part.name} did not happen: {problem}. The run goes on without.")
