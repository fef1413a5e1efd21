"""Miniature: some blocks of a table in temporary tables, and the steps of a run performed there, each timed.

They bear the names of the real tables, so resolve, link or rewriting and indexes run as they will run, and nothing of
the application's is touched: no lock but that of a reader, no row written, no WAL but that of the catalog. All of it
goes with its session, at once.

Each pass is a commit, as in a run: only then are the versions dead that the next one may reuse.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.blocks import Heap, Range, heap_of
from backfill.database.connection import execute, rows, value
from backfill.database.quoting import regclass, table
from backfill.engine.estimate.sample import Sample, SampleFailed
from backfill.jobs import resolve
from backfill.jobs.passes import Pass, pass_of
from backfill.jobs.resolve import Computes, Entry
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.ledger.phases import LINK
from backfill.plan import Job, LinkJob
from backfill.raw_column import Table
from backfill.shadow import table_definition
from backfill.shadow.table_definition import TableDefinition

TEMPORARY = "pg_temp"
SPOTS = 16  # a table is not the same throughout: the newest rows are linked already
LOCK_SECONDS = 0.3


@dataclass(frozen=True)
class Copied:
    """What a copy of the miniature cost. Seconds; bytes without the raw column."""

    copy: float
    index: float
    compare: float
    heap: int
    indexes: int


class Miniature:
    """One table's, in one session. What differs by kind of job is for those who inherit."""

    def __init__(
        self,
        connection: Connection,
        job: Job,
        resolver: Computes,
        *,
        passes: int,
        most_blocks: int,
        seconds: float,
    ) -> None:
        self._connection, self._resolver, self._passes = connection, resolver, passes
        self._real, self._most, self._limit = job, most_blocks, seconds
        self._job = job  # in a schema of this session, once there is one
        self._began = time.monotonic()

    def measure(self) -> Sample:
        """Everything, step by step, each timed. Raises ``SampleFailed``."""
        impossible = _impossible(self._connection)
        if impossible:
            raise SampleFailed(impossible)
        timeouts = sql.SQL(
            "set statement_timeout = {}; set lock_timeout = {}; set temp_buffers = '32MB'; set client_min_messages = error"
        )
        execute(
            self._connection,
            timeouts.format(sql.Literal(int(self._limit * 1000)), sql.Literal(int(LOCK_SECONDS * 1000))),
        )
        heap = heap_of(self._connection, self._real)
        if heap.blocks == 0:
            raise SampleFailed("the table is empty")
        definition = table_definition.read_definition(self._connection, self._real)
        self._connection.commit()
        spots = list(_spots(heap, self._most))
        with self._timed() as read:
            for spot in spots:
                self._run("select count(*) from {table} as event where {which}", which=spot.holds("event"))
        self._load(definition, spots)
        blocks = heap_of(self._connection, self._job).blocks
        whole = Batch(0, 0, LINK, self._job.identity, Range(0, blocks), self._passes, 0)
        before = self._sizes(self._job)
        with self._timed() as resolving:
            texts = resolve.new_texts(self._connection, TEMPORARY, self._job, whole)
            resolved = list(self._resolver.resolve(texts))
            if resolved:
                self._enter(resolved)
        execute(self._connection, sql.SQL("analyze {}").format(address_map.name(TEMPORARY)))
        self._connection.commit()
        copied = self._copied(definition)
        written, writing = self._apply(whole)
        # Again, with nothing left to do: what the statements cost by themselves, which does not grow with the table.
        _, idle = self._apply(whole)
        reading = read.seconds * self._passes / 2
        after = self._sizes(self._job)
        return Sample(
            share=sum(spot.last - spot.first for spot in spots) / heap.blocks,
            rows=int(value(self._connection, sql.SQL("select count(*) from {}").format(table(self._job)))),
            texts=len(texts),
            written=written,
            read=read.seconds,
            resolve=resolving.seconds,
            link=max(0.0, writing - idle) + reading,
            copy=copied.copy if copied else 0.0,
            index=copied.index if copied else 0.0,
            compare=copied.compare if copied else 0.0,
            heap=before[0],
            heap_in_place=after[0],
            heap_copy=copied.heap if copied else 0,
            indexes=before[1],
            indexes_in_place=after[1],
            indexes_copy=copied.indexes if copied else 0,
            heap_fresh=self._fresh(),
            keeps_addresses=isinstance(self._real, LinkJob),
            took=time.monotonic() - self._began,
            copied=copied is not None,
        )

    def _load(self, definition: TableDefinition, spots: list[Range]) -> None:
        """The miniature as it stands before a run; statistics 0, so that no value enters ``pg_statistic``."""
        self._make(self._real, self._real)
        # Some of the catalog's rows are asked for by the schema's own name.
        own = value(
            self._connection, sql.SQL("select nspname from pg_namespace where oid = pg_my_temp_schema()")
        )
        self._job = self._real.model_copy(update={"schema_": own})
        columns = sql.SQL(", ").join(map(sql.Identifier, self._columns(self._real)))
        for spot in spots:
            self._run(
                "insert into {mine} ({columns}) overriding system value select {columns} from {table} as event where {which}",
                mine=table(self._job),
                columns=columns,
                which=spot.holds("event"),
            )
        self._index(definition)
        self._ledger()
        self._without_statistics(self._job)
        execute(self._connection, sql.SQL("analyze {}").format(table(self._job)))
        self._connection.commit()

    def _index(self, definition: TableDefinition) -> None:
        """The indexes of the table, over the miniature."""
        raise NotImplementedError

    def _ledger(self) -> None:
        """An empty map, and what else the statements of this kind of job need."""
        raise NotImplementedError

    def _enter(self, resolved: Sequence[Entry]) -> None:
        """Those texts into the map."""
        raise NotImplementedError

    def _copied(self, definition: TableDefinition) -> Copied | None:
        """A copy without the raw column, where there can be one."""
        return None

    def _apply(self, whole: Batch) -> tuple[int, float]:
        """Rows written and seconds of all passes."""
        written = 0
        with self._timed() as applying:
            for number in range(self._passes):
                written += self._write(whole, pass_of(whole.range, whole.passes, number))
                self._connection.commit()
                self._check()
        return written, applying.seconds

    def _write(self, whole: Batch, now: Pass) -> int:
        """One pass; returns the number of its rows."""
        raise NotImplementedError

    def _fresh(self) -> int:
        """Bytes of the rows as they are now, written anew."""
        fresh = Table(table="backfill_fresh", schema=TEMPORARY)
        self._make(self._real, fresh)
        columns = sql.SQL(", ").join(map(sql.Identifier, self._columns(self._real)))
        self._run(
            "insert into {fresh} ({columns}) overriding system value select {columns} from {mine}",
            fresh=table(fresh),
            columns=columns,
            mine=table(self._job),
        )
        return self._sizes(fresh)[0]

    def _make(self, real: Table, mine: Table, *, indexes: bool = False) -> None:
        """Without checks: nobody knows what a function does that one of them calls."""
        self._run(
            "create temporary table {mine} (like {real} including all excluding constraints excluding statistics"
            " excluding comments {less})",
            mine=sql.Identifier(mine.table),
            real=table(real),
            less=sql.SQL("" if indexes else "excluding indexes"),
        )

    def _columns(self, part: Table) -> list[str]:
        """Those that can be written."""
        statement = sql.SQL("""
            select attname from pg_attribute
             where attrelid = {} and attnum > 0 and not attisdropped and attgenerated = '' order by attnum
        """).format(regclass(part))
        return [name for (name,) in rows(self._connection, statement)]

    def _without_statistics(self, part: Table) -> None:
        for (name,) in rows(
            self._connection,
            sql.SQL(
                "select attname from pg_attribute where attrelid = {} and attnum > 0 and not attisdropped"
            ).format(regclass(part)),
        ):
            self._run(
                "alter table {mine} alter {column} set statistics 0",
                mine=table(part),
                column=sql.Identifier(name),
            )

    def _sizes(self, part: Table) -> tuple[int, int]:
        """Heap with TOAST, and indexes; without the maps, which are rounded up."""
        statement = sql.SQL("""
            select pg_relation_size(oid) + coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0),
                   pg_indexes_size(oid) from pg_class where oid = {}
        """).format(regclass(part))
        ((heap, indexes),) = rows(self._connection, statement)
        return int(heap), int(indexes)

    def _run(self, statement: str, **names_: sql.Composable) -> None:
        parts = {"table": table(self._real)} | names_
        execute(self._connection, sql.SQL(statement).format(**parts))
        self._check()

    def _check(self) -> None:
        if time.monotonic() - self._began > self._limit:
            raise SampleFailed(
                f"a sample of {self._most} blocks took more than {self._limit:g} s, so it was left"
            )

    @contextmanager
    def _timed(self) -> Iterator["_Clock"]:
        clock, began = _Clock(), time.monotonic()
        yield clock
        clock.seconds = time.monotonic() - began
        self._check()


@dataclass
class _Clock:
    seconds: float = 0.0


def _spots(heap: Heap, most_blocks: int) -> Iterator[Range]:
    """Ranges spread evenly over the table; all of it, where it is small."""
    if heap.blocks <= most_blocks:
        yield Range(0, heap.blocks)
        return
    spots = min(SPOTS, most_blocks)
    size = most_blocks // spots
    for number in range(spots):
        first = (heap.blocks - size) * number // max(1, spots - 1)
        yield Range(first, first + size)


def _impossible(connection: Connection) -> str | None:
    """Why no sample can be taken here at all; None where it can."""
    if value(connection, sql.SQL("select pg_is_in_recovery()")):
        return "this is a standby"
    if not value(connection, sql.SQL("select has_database_privilege(current_database(), 'temporary')")):
        return "the role may not make temporary tables (GRANT TEMPORARY ON DATABASE)"
    return None
