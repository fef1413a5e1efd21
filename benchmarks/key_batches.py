"""UPDATE by primary key, 10,000 rows a batch and a commit each: what most tools for batched updates do."""

import time
from dataclasses import dataclass, field

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.connection import execute, rows
from backfill.plan import EVENT_TABLES
from benchmarks import whole_resolve
from benchmarks.contenders import Work
from benchmarks.ground import Site
from benchmarks.single_update import PLACES, UPDATE

ROWS = 10_000
NONE = "00000000-0000-0000-0000-000000000000"  # below every key

LAST = """
    select id from (select id from {} where id > %s order by id limit {}) as page order by id desc limit 1
"""


@dataclass
class KeyBatches:
    """Resolve everything at once, then pages of the primary key in its order."""

    rows: int = ROWS
    name: str = f"UPDATE by primary key, {ROWS:,} rows a batch"
    complete: bool = True
    sampled: bool = False
    _engine: Engine = field(init=False, repr=False)

    def prepare(self, site: Site) -> None:
        """Connect, and bring the tables that resolve writes to."""
        self._engine = whole_resolve.ready(site)

    def run(self, site: Site) -> Work:
        """Resolve, then update; the longest transaction is the longest batch."""
        began = time.monotonic()
        whole_resolve.resolve(self._engine, site)
        resolved = time.monotonic()
        longest = 0.0
        for name in EVENT_TABLES:
            after: str | None = NONE
            while after is not None:
                started = time.monotonic()
                with self._engine.begin() as connection:
                    after = self._batch(connection, name, after)
                longest = max(longest, time.monotonic() - started)
            with self._engine.begin() as connection:
                execute(connection, sql.SQL(PLACES).format(sql.Identifier(name)))
        ended = time.monotonic()
        self._engine.dispose()
        return Work(ended - began, {"resolve": resolved - began, "update": ended - resolved}, longest)

    def _batch(self, connection: Connection, name: str, after: str) -> str | None:
        """One page; returns its last key, none after the last page."""
        page = sql.SQL(LAST).format(sql.Identifier(name), sql.Literal(self.rows))
        found = rows(connection, page, (after,))
        if not found:
            return None
        last = str(found[0][0])
        which = sql.SQL(" and event.id > {} and event.id <= {}").format(sql.Literal(after), sql.Literal(last))
        execute(connection, sql.SQL(UPDATE).format(sql.Identifier(name)) + which)
        return last
