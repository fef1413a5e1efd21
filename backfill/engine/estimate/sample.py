"""Sample: the real statements on a miniature of a table, timed on this server.

The miniature is made of temporary tables that bear the names of the real ones: some blocks of the
event table, the addresses that they are linked to, an empty map. So resolve, link, copy, indexes and
comparison run as they will run, and nothing of the application's is touched: no lock but that of a
reader, no row written, no WAL but that of the catalog. All of it goes with its session, at once.

Each pass is a commit, as in a run: only then are the versions dead that the next one may reuse.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.blocks import Heap, Range, heap_of
from backfill.database.columns import column_type, key_type
from backfill.database.connection import execute, problem_of, rows, value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.quoting import regclass, table
from backfill.jobs import link, resolve
from backfill.jobs.passes import pass_of
from backfill.jobs.resolver import Resolver
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.ledger.phases import LINK
from backfill.plan import Addresses, LinkJob
from backfill.raw_column import Table
from backfill.shadow import compare, expected_rows, names, table_definition
from backfill.shadow.refusals import has_fit_key
from backfill.shadow.rows import insert, known
from backfill.shadow.table_definition import TableDefinition

TEMPORARY = "pg_temp"
SPOTS = 16  # a table is not the same throughout: the newest rows are linked already
MOST_BLOCKS = 256  # 2 MB, some 6,000 rows: well under a second on an idle server
FIRST_BLOCKS = 32  # what the first look takes…
QUICK_SECONDS = 0.5  # … and how long it may last, for a larger one to be worth its while
SECONDS = 3.0  # for one look; then the server is too busy to be asked
LOCK_SECONDS = 0.3


class SampleFailed(Exception):
    """Its text says why nothing could be measured; a sentence without its end."""


@dataclass(frozen=True)
class Sample:
    """What a miniature cost. Seconds, bytes, rows; ``share`` of the table's blocks was taken."""

    share: float
    rows: int
    texts: int  # distinct ones that had to be resolved
    written: int  # rows that link changed
    read: float
    resolve: float
    link: float
    copy: float
    index: float
    compare: float
    heap: int  # of the miniature before anything was linked, TOAST included
    heap_in_place: int
    heap_copy: int
    indexes: int
    indexes_in_place: int
    indexes_copy: int
    raw: int  # bytes of the raw values, which the copy has no more
    took: float = 0.0
    copied: bool = True  # False: it cannot be, and what a copy costs is 0 here


def take_sample(
    engine: Engine,
    addresses: Addresses,
    job: LinkJob,
    resolver: Resolver,
    *,
    passes: int,
    most_blocks: int = MOST_BLOCKS,
) -> Sample:
    """Measure *job*'s table. Raises ``SampleFailed``."""
    with engine.connect() as connection:
        try:
            return _Miniature(connection, addresses, job, resolver, passes, most_blocks).measure()
        except DRIVER_ERRORS as error:
            raise SampleFailed(problem_of(error)) from None
        finally:
            connection.invalidate()  # the temporary tables hold addresses: they go with their session, now


def take_best(
    engine: Engine, addresses: Addresses, job: LinkJob, resolver: Resolver, *, passes: int
) -> Sample:
    """A small sample, and where that is quick a larger one: on a busy server small figures are better than none."""
    first = take_sample(engine, addresses, job, resolver, passes=passes, most_blocks=FIRST_BLOCKS)
    if first.share >= 1 or first.took > QUICK_SECONDS:
        return first
    try:
        return take_sample(engine, addresses, job, resolver, passes=passes)
    except SampleFailed:
        return first


class _Miniature:
    """One table's, in one session."""

    def __init__(
        self,
        connection: Connection,
        addresses: Addresses,
        job: LinkJob,
        resolver: Resolver,
        passes: int,
        most_blocks: int,
    ) -> None:
        self._connection, self._resolver, self._passes = connection, resolver, passes
        self._real, self._most = job, most_blocks
        self._real_addresses = addresses
        self._job = job.model_copy(update={"schema_": TEMPORARY})
        self._addresses = addresses.model_copy(update={"schema_": TEMPORARY})
        self._began = time.monotonic()
        with connection.begin():
            self._can_copy = has_fit_key(connection, job)

    def measure(self) -> Sample:
        """Everything, step by step, each timed."""
        impossible = _impossible(self._connection)
        if impossible:
            raise SampleFailed(impossible)
        timeouts = sql.SQL(
            "set statement_timeout = {}; set lock_timeout = {}; set temp_buffers = '32MB'; set client_min_messages = error"
        )
        execute(
            self._connection,
            timeouts.format(sql.Literal(int(SECONDS * 1000)), sql.Literal(int(LOCK_SECONDS * 1000))),
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
        whole = Batch(0, 0, LINK, self._job.identity, Range(0, self._blocks(self._job)), self._passes, 0)
        before = self._sizes(self._job)
        with self._timed() as resolving:
            texts = resolve.new_texts(self._connection, TEMPORARY, self._job, whole)
            resolved = list(self._resolver.resolve(texts))
            if resolved:
                resolve.enter_all(self._connection, TEMPORARY, self._addresses, self._resolver, resolved)
        execute(self._connection, sql.SQL("analyze {}").format(address_map.name(TEMPORARY)))
        self._connection.commit()
        copying = indexing = comparing = 0.0
        copied = (0, 0)
        if self._can_copy:
            copying, indexing, comparing = self._copy(definition)
            copied = self._sizes(names.shadow(self._job))
        written, linking = self._link(whole)
        # Again, with nothing left to do: what the statements cost by themselves, which does not grow with the table.
        _, idle = self._link(whole)
        reading = read.seconds * self._passes / 2
        after = self._sizes(self._job)
        ((number, raw),) = rows(
            self._connection,
            sql.SQL("select count(*), coalesce(sum(pg_column_size({raw})), 0) from {table}").format(
                raw=sql.Identifier(self._job.raw), table=table(self._job)
            ),
        )
        taken = sum(spot.last - spot.first for spot in spots)
        return Sample(
            share=taken / heap.blocks,
            rows=number,
            texts=len(texts),
            written=written,
            read=read.seconds,
            resolve=resolving.seconds,
            link=max(0.0, linking - idle) + reading,
            copy=copying,
            index=indexing,
            compare=comparing,
            heap=before[0],
            heap_in_place=after[0],
            heap_copy=copied[0],
            indexes=before[1],
            indexes_in_place=after[1],
            indexes_copy=copied[1],
            raw=int(raw),
            took=time.monotonic() - self._began,
            copied=self._can_copy,
        )

    def _load(self, definition: TableDefinition, spots: list[Range]) -> None:
        """The miniature as it stands before a run; statistics 0, so that no value enters ``pg_statistic``."""
        self._make(self._real, self._job)
        columns = sql.SQL(", ").join(map(sql.Identifier, self._columns(self._real)))
        for spot in spots:
            self._run(
                "insert into {mine} ({columns}) overriding system value select {columns} from {table} as event where {which}",
                mine=table(self._job),
                columns=columns,
                which=spot.holds("event"),
            )
        self._index(self._job, definition)
        self._make(self._real_addresses, self._addresses, indexes=True)
        self._run(
            "insert into {mine} ({columns}) overriding system value select {columns} from {known} as known"
            " where known.{key} in (select {link} from {events})",
            mine=table(self._addresses),
            columns=sql.SQL(", ").join(map(sql.Identifier, self._columns(self._real_addresses))),
            known=table(self._real_addresses),
            key=sql.Identifier(self._addresses.key),
            link=sql.Identifier(self._job.link),
            events=table(self._job),
        )
        self._run(
            "alter table {mine} add foreign key ({link}) references {known} ({key})",
            mine=table(self._job),
            link=sql.Identifier(self._job.link),
            known=table(self._addresses),
            key=sql.Identifier(self._addresses.key),
        )
        self._run(
            """
            create temporary table address_map (raw text collate "C" primary key, address_id {id}, geo jsonb, reason text);
            alter table {map} alter raw set statistics 0, alter address_id set statistics 0, alter geo set statistics 0;
            create temporary table lost_fields (job text, row_key text, field text, primary key (job, row_key, field));
            create temporary table geo_lookups (address_key text, source text, build timestamptz, found boolean, primary key (address_key, source, build))
            """,
            map=address_map.name(TEMPORARY),
            id=sql.SQL(key_type(self._connection, self._real_addresses)),
        )
        self._without_statistics(self._job)
        execute(self._connection, sql.SQL("analyze {}").format(table(self._job)))
        self._connection.commit()

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

    def _index(self, part: Table, definition: TableDefinition) -> None:
        for index in definition.indexes:
            self._run(
                "create {unique}index on {mine} {rest}",
                unique=sql.SQL(index.unique),
                mine=table(part),
                rest=sql.SQL(index.rest),
            )

    def _copy(self, definition: TableDefinition) -> tuple[float, float, float]:
        """Seconds of the copy, of its indexes, and of its comparison with the original."""
        shadow = names.shadow(self._job)
        self._make(self._real, shadow)
        self._run(
            "create temporary table {log} (key {key}); create temporary table {flaws} (key {key}, kind text)",
            log=sql.Identifier(names.log_name(self._job)),
            flaws=sql.Identifier(names.blockers_name(self._job)),
            key=sql.SQL(column_type(self._connection, self._real, names.key(self._real)).name),
        )
        self._run(
            "alter table {mine} drop column {raw}", mine=table(shadow), raw=sql.Identifier(self._job.raw)
        )
        everything = sql.SQL("true")
        self._connection.commit()
        with self._timed() as copying:
            places = known(self._connection, self._real_addresses, self._resolver.geo.keys)
            places = replace(places, addresses=self._addresses)
            execute(self._connection, insert(TEMPORARY, self._job, definition, everything, places))
        with self._timed() as indexing:
            self._index(shadow, definition)
        with self._timed() as comparing:
            compare.compare_rows(
                self._connection,
                TEMPORARY,
                self._addresses,
                self._job,
                definition,
                self._resolver,
                everything,
            )
        expected_rows.drop_temporary(self._connection)
        self._connection.commit()
        return copying.seconds, indexing.seconds, comparing.seconds

    def _link(self, whole: Batch) -> tuple[int, float]:
        """Rows written and seconds of all passes."""
        written = 0
        with self._timed() as linking:
            for number in range(self._passes):
                now = pass_of(whole.range, whole.passes, number)
                written += link.link_rows(self._connection, TEMPORARY, self._job, whole, now)
                self._connection.commit()
                self._check()
        return written, linking.seconds

    def _blocks(self, part: Table) -> int:
        return heap_of(self._connection, part).blocks

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
        if time.monotonic() - self._began > SECONDS:
            raise SampleFailed(
                f"a sample of {self._most} blocks took more than {SECONDS:g} s, so it was left"
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
