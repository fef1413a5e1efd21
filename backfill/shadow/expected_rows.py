"""Expected rows: what each text of the original calls for, computed anew for the comparison; the address map has no part.

For whole tables a relation of the ledger's schema, so that several sessions can compare ranges of it at
once: unlogged, as the map is, and with its limits. For a replay, or for the few rows of a range that are not
plainly fine, a temporary one, of the session alone.

The server is busy while it copies and builds indexes, our own process is not, and an index build leaves a
core idle: so the texts of all tables are read and computed beside it (``ahead``).
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Self

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.blocks import Range, heap_of, ranges
from backfill.database.columns import key_type
from backfill.database.connection import ASYNCHRONOUS, copy_in, execute, rows
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.quoting import table
from backfill.database.timeouts import Timeouts
from backfill.jobs.resolver import Resolved, Resolver
from backfill.jobs.row_needs import may_be_address, raw_text, short, usable
from backfill.plan import Addresses, LinkJob

BLOCKS = 2_000  # 16 MB a transaction: some 30,000 new texts at first, half a second

TEMPORARY = sql.Identifier("backfill_shadow_texts")
COLUMNS = sql.SQL(
    'raw text collate "C" primary key, address text, hash text, geo jsonb, reason text, lost text'
)

# Statistics 0: ANALYZE by hand would write values into pg_statistic, which is logged.
PRIVATE = sql.SQL("""
    alter table {texts} alter raw set statistics 0, alter address set statistics 0,
        alter hash set statistics 0, alter geo set statistics 0
""")

UNREAD = sql.SQL("""
    select fresh.raw
      from (select text.raw
              from (select distinct {text} as raw from {table} as event
                     where {which} and event.{raw} is not null and {short}) as text
             where not exists (select from {texts} as known where known.raw = text.raw)
            offset 0) as fresh
     where {may_be_address}
""")


# The address row that is right for a text, with the hash that is right for it; and the geo that its events
# should have: what we looked up, else what the live application knows. Joined once for each text here, it is
# a join less for each row of each table: 1.06 s against 1.46 for 333,000 rows. Added to, never made anew: a
# comparison that waits for a new one has its snapshot already, finds it empty, and calls no row fine.
EXPECT = sql.SQL("""
    create unlogged table if not exists {expected} (raw text collate "C", link {type}, geo jsonb);
    alter table {expected} alter raw set statistics 0, alter geo set statistics 0
""")
EXPECTED = sql.SQL("""
    insert into {expected} (raw, link, geo)
    select text.raw, known.{key},
           coalesce(text.geo, case when {usable}
                                   then jsonb_build_object('geoip_info', known.{geo}) end)
      from {texts} as text
      left join {addresses} as known on known.{address} = text.address::inet and known.{hash} = text.hash
     where not exists (select from {expected} as before where before.raw = text.raw);
    analyze {expected}  -- sizes: the planner needs them
""")


class ExpectedRows:
    """The shared one, of as many tables as are compared with it; gone at the end of ``with``."""

    def __init__(self, engine: Engine, schema: str, resolver: Resolver) -> None:
        self.resolver = resolver
        self._engine, self._schema = engine, schema
        self._table = sql.Identifier(schema, "shadow_texts")
        self._expected = sql.Identifier(schema, "shadow_expected")
        self._reading = threading.Lock()  # one table at a time, ahead or when it is needed
        self._read: set[str] = set()  # tables whose texts are in it
        # Another lock: who compares one table does not wait for the next one's texts.
        self._matching = threading.Lock()
        self._matched: set[str] = set()  # tables whose texts are expected

    def __enter__(self) -> Self:
        """Begin with an empty one: what was left behind may be of another salt or geo database."""
        with self._engine.begin() as connection:
            drop(connection, self._schema)
            execute(connection, sql.SQL("create unlogged table {} ({})").format(self._table, COLUMNS))
            execute(connection, PRIVATE.format(texts=self._table))
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # Whoever ends the run with an error has more to clean up than this; what is left is dropped with the copy.
        with contextlib.suppress(*DRIVER_ERRORS), self._engine.begin() as connection:
            drop(connection, self._schema)

    def read(
        self, job: LinkJob, go_on: Callable[[], bool] = lambda: True, timeouts: Timeouts | None = None
    ) -> None:
        """Enter what the texts of *job* call for, as far as that was not done; or until *go_on* says no."""
        if job.identity in self._read:
            return
        with self._reading:
            if job.identity not in self._read and self._read_all(job, go_on, timeouts):
                self._read.add(job.identity)

    def expected(self, addresses: Addresses, job: LinkJob) -> sql.Identifier:
        """What the texts of *job*, once read, call for, with the address rows as they are: raw, link, geo."""
        with self._matching:
            if job.identity not in self._matched:
                read = frozenset(self._read)  # committed, each of them
                self._match(addresses)
                self._matched |= read
        return self._expected

    def _match(self, addresses: Addresses) -> None:
        parts = {
            "expected": self._expected,
            "texts": self._table,
            "addresses": table(addresses),
            "key": sql.Identifier(addresses.key),
            "address": sql.Identifier(addresses.address),
            "hash": sql.Identifier(addresses.hash),
            "geo": sql.Identifier(addresses.geo),
            "usable": usable(sql.Identifier("known", addresses.geo)),
        }
        with self._engine.begin() as connection:
            if not self._matched:
                type_ = sql.SQL(key_type(connection, addresses))
                execute(connection, EXPECT.format(expected=self._expected, type=type_))
            execute(connection, EXPECTED.format(**parts))

    @contextmanager
    def ahead(
        self, jobs: Sequence[LinkJob], addresses: Addresses, may_go_on: Callable[[], bool]
    ) -> Iterator[None]:
        """Read *jobs* in a thread, one range after the other as long as it *may_go_on*.

        Whatever stops it, a locked table as well, ``read`` goes on from there, and meets the error if it lasts.
        """
        over = threading.Event()

        def go_on() -> bool:
            return not over.is_set() and may_go_on()

        def read() -> None:
            with contextlib.suppress(*DRIVER_ERRORS):
                for job in jobs:
                    self.read(job, go_on, Timeouts())
                if go_on() and jobs:
                    self.expected(addresses, jobs[-1])

        thread = threading.Thread(target=read, name="expected-rows", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _read_all(self, job: LinkJob, go_on: Callable[[], bool], timeouts: Timeouts | None) -> bool:
        """The whole table's; the server enters one range while the next is computed.

        Returns whether *go_on* let it come to its end.
        """
        with self._engine.begin() as connection:
            spans = deque(ranges(heap_of(connection, job).blocks, BLOCKS))

        def ask(span: Range) -> list[str]:
            with self._engine.begin() as connection:
                if timeouts is not None:
                    timeouts.apply(connection)
                return _unread(connection, self._table, job, span.holds("event"))

        def enter(resolved: list[Resolved]) -> None:
            with self._engine.begin() as connection:
                execute(connection, ASYNCHRONOUS)
                copy_in(connection, self._table, Resolved._fields, resolved)

        # Three at a time: one range is asked for, one computed, one entered. What the two before it enter,
        # the proof may not have shown when a range was asked for.
        under_way: deque[set[str]] = deque(maxlen=2)
        with ThreadPoolExecutor(1, "ask") as asking, ThreadPoolExecutor(1, "enter") as entering:
            coming = asking.submit(ask, spans.popleft()) if spans else None
            going: Future[None] | None = None
            while coming is not None and go_on():
                texts = coming.result()
                coming = asking.submit(ask, spans.popleft()) if spans else None
                new = (text for text in texts if not any(text in known for known in under_way))
                resolved = list(self.resolver.resolve(new))
                if going is not None:
                    going.result()
                going = entering.submit(enter, resolved)
                under_way.append({one.raw for one in resolved})
            if going is not None:
                going.result()
        return coming is None


def create_temporary(connection: Connection) -> None:
    """One that ends with its session at the latest."""
    execute(connection, sql.SQL("create temporary table if not exists {} ({})").format(TEMPORARY, COLUMNS))
    execute(connection, PRIVATE.format(texts=TEMPORARY))


def drop(connection: Connection, schema: str) -> None:
    """Take the texts of the shared proof away, whoever left it."""
    for name in ("shadow_texts", "shadow_expected"):
        execute(connection, sql.SQL("drop table if exists {}").format(sql.Identifier(schema, name)))


def drop_temporary(connection: Connection) -> None:
    """Take the texts out of a session that goes on."""
    execute(connection, sql.SQL("drop table if exists {}").format(TEMPORARY))


def enter_expected(
    connection: Connection, texts: sql.Identifier, job: LinkJob, resolver: Resolver, which: sql.Composable
) -> None:
    """Enter what *which* rows of the original (``event``) call for, as far as it is not there."""
    copy_in(connection, texts, Resolved._fields, resolver.resolve(_unread(connection, texts, job, which)))


def _unread(connection: Connection, texts: sql.Identifier, job: LinkJob, which: sql.Composable) -> list[str]:
    statement = UNREAD.format(
        raw=sql.Identifier(job.raw),
        text=raw_text(job),
        table=table(job),
        which=which,
        short=short(raw_text(job)),
        may_be_address=may_be_address(sql.SQL("fresh.raw")),
        texts=texts,
    )
    return [text for (text,) in rows(connection, statement)]
