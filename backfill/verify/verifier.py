"""Verify: recompute coverage from the data and put it on record.

1. Every address row: hash recomputed in the client; at the same time
2. every event table: each row joined with the address row it is linked to, suspects judged; once more,
   should a hash turn out to be amiss, with those.
3. Address rows that came or changed meanwhile, once more; blocks that were added meanwhile. Of values that were rewritten in
   place, rows that were written meanwhile, wherever they are now: of other jobs, the gate of the drop looks at every row.
4. Columns to be discarded: what is still written there.
5. The records go into the ledger; the gates read them there.

By block range, several at once, each with its counts as its checkpoint. At most as many statements
run at once as there are connections to work on; one connection more lets the client judge meanwhile. An interrupted verification
goes on from there as long as nothing that matters has changed: plan, key id, scheme, method, geo
database, place of the tables on disk, tool, and nothing that Backfill itself did to the data since.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from queue import Empty, LifoQueue
from threading import BoundedSemaphore, Event
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill import __version__
from backfill.database.blocks import Range, even_ranges, heap_of, ranges
from backfill.database.columns import has_column
from backfill.database.connection import execute
from backfill.engine.in_flight import in_threads
from backfill.errors import TableRewritten, VerifyInProgress
from backfill.geo.geo_database import GeoDatabase
from backfill.hashing.pseudonym import Pseudonyms
from backfill.ledger import coverage, locks, raw_columns, verification_ranges
from backfill.ledger.counts import UNCOVERING, Count
from backfill.ledger.coverage_record import CoverageRecord, Method
from backfill.ledger.verification_ranges import Part, RangeCounts
from backfill.plan import InPlaceJob, Job, Plan
from backfill.raw_column import RawColumn
from backfill.verify import addresses, discards, lookups, reasons, sample
from backfill.verify.addresses import AddressVerifier
from backfill.verify.confirmation import Confirmation, with_confirmation
from backfill.verify.judge import Ground
from backfill.verify.judges import judge_of
from backfill.verify.written_since import WrittenSince

# 320 MB a statement: about half a second, which is how long its snapshot lasts. Each statement builds the
# join's hash of the address table anew: at 20,000 blocks that was a quarter of its time.
BLOCKS = 40_000
SMALL = 2_000  # blocks: below that, sharing a table between connections costs more than it saves
WORK_MEM = "64MB"  # the hash of a million addresses; at the usual 4 MB the join spills at 100,000
TAILS = 2  # looks for blocks added meanwhile; under constant inserts there is always one more


@contextmanager
def verify_lock(engine: Engine, schema: str) -> Iterator[None]:
    """One verification at a time; the server frees the lock when we are gone. Raises ``VerifyInProgress``."""
    with engine.connect() as connection:
        taken = locks.take(connection, schema, locks.VERIFY)
        if isinstance(taken, locks.Holder):
            raise VerifyInProgress(session=taken)
        try:
            yield
        finally:
            locks.give(connection, taken)


@dataclass
class Verifier:
    """One verification; used once. ``verify`` is the whole of it."""

    engine: Engine
    schema: str
    plan: Plan
    fingerprint: str
    hasher: Callable[[str], str]
    geo: GeoDatabase | None  # None: the plan has no address table
    tell: Callable[[str], None]
    workers: int = 2
    key_id: str = "default"
    pseudonyms: Pseudonyms | None = None  # of the key id; None: no prefix was allotted
    percent: float | None = None  # of the event tables' blocks; None: all of them
    blocks: int = BLOCKS  # of a statement, at most

    def __post_init__(self) -> None:
        self._slots = BoundedSemaphore(self.workers)  # statements at once
        self._hashed, self._stopping = Event(), Event()
        self._idle: LifoQueue[Connection] = LifoQueue()

    @property
    def method(self) -> Method:
        """How much is read."""
        return Method.FULL if self.percent is None else Method.SAMPLE

    def verify(self) -> list[CoverageRecord]:
        """The records of all tables of the plan, entered in the ledger."""
        with self.engine.connect() as connection, ExitStack() as self._open:
            self._begin(connection)
            for part in self.plan.address_tables:
                self._plan(connection, part, addresses.BLOCKS, whole=True)
            connection.commit()
            size = self._size(connection)
            for job in self.plan.jobs:
                self._plan(connection, job, size, whole=False)
            connection.commit()
            looks: list[Callable[[Connection], Any]]
            looks = [partial(discards.observe, discard=discard) for discard in self.plan.discard]
            looks += [
                partial(lookups.observe, schema=self.schema, addresses=part)
                for part in self.plan.address_tables
            ]
            observed = self._read_all(connection, *looks)
            if self._address is not None:
                self.tell(f"{self.plan.addresses.label}: hashes recomputed")
            if self._hashes_amiss(connection):
                verification_ranges.read_again(connection, self._number)
                self._read_all(connection)
            for _ in range(TAILS if self.method is Method.FULL else 0):
                self._plan_tails(connection)
                self._read_all(connection)
            records = [self._event_record(connection, job) for job in self.plan.jobs]
            connection.commit()
            if self._address is not None:
                address = self._address.verdict(connection, self._transaction, observed.pop())
                records.append(with_confirmation(connection, address, self.key_id, self.plan.hash.scheme))
                connection.commit()
            records += observed
            self._check_files(connection)
            records = self._enter(connection, records)
            connection.commit()
        return records

    def _begin(self, connection: Connection) -> None:
        self._files = {part.identity: heap_of(connection, part).filenode for part in self._tables}
        stands = {job.identity: has_column(connection, job, job.raw) for job in self.plan.jobs}
        for part in self.plan.parts:
            raw_columns.require_dropped(connection, self.schema, part)
        terms = {
            "plan": self.fingerprint,
            "method": self.method,
            "percent": self.percent,
            "blocks": self.blocks,
            "geo": [self._geo_type, self._geo_build.isoformat() if self._geo_build else None],
            "prefix": self.pseudonyms.prefix if self.pseudonyms else None,
            "version": __version__,
            "files": self._files,
            "raw": stands,
            **verification_ranges.changes(connection),
        }
        transaction = addresses.current_transaction(connection)
        self._number, self._transaction, resumed = verification_ranges.begin(connection, terms, transaction)
        if resumed:
            left = len(verification_ranges.unread(connection, self._number))
            self.tell(f"Going on with verification {self._number}: {left} ranges are still to be read")
        self._address: AddressVerifier | None = None
        for part in self.plan.address_tables:
            self._address = AddressVerifier(self.schema, part, self.hasher, self._number)
        ground = Ground(
            self.schema,
            self.plan,
            self.fingerprint,
            self.hasher,
            self.geo,
            self._number,
            Confirmation.of(self.plan, self.key_id),
            self.pseudonyms,
        )
        self._judges = {job.identity: judge_of(ground, job) for job in self.plan.jobs}
        for judge in self._judges.values():
            judge.begin(connection)
        connection.commit()

    def _check_files(self, connection: Connection) -> None:
        for part in self._tables:
            if heap_of(connection, part).filenode != self._files[part.identity]:
                raise TableRewritten(table=part.name)

    @property
    def _tables(self) -> tuple[RawColumn, ...]:
        return (*self.plan.address_tables, *self.plan.jobs)

    @property
    def _geo_type(self) -> str | None:
        return self.geo.provenance.database_type if self.geo else None

    @property
    def _geo_build(self) -> datetime | None:
        return self.geo.provenance.build if self.geo else None

    def _hashes_amiss(self, connection: Connection) -> bool:
        return self._address is not None and self._address.hashes_amiss(connection)

    def _size(self, connection: Connection) -> int:
        """Blocks of a range, so that every connection has one."""
        total = sum(heap_of(connection, job).blocks for job in self.plan.jobs)
        return min(self.blocks, max(SMALL, -(-total // self.workers)))

    def _plan(self, connection: Connection, part: RawColumn, size: int, *, whole: bool) -> None:
        """Enter the table's ranges, unless they are there."""
        if verification_ranges.planned_to(connection, self._number, part.identity) is not None:
            return
        heap = heap_of(connection, part)
        spans: Iterable[Range] = even_ranges(heap.blocks, size)
        if self.percent is not None and not whole:
            spans = sample.chunks(heap.blocks, self.percent, self._number)
        verification_ranges.plan(connection, self._number, part.identity, spans)

    def _plan_tails(self, connection: Connection) -> None:
        for job in self.plan.jobs:
            read_to = verification_ranges.planned_to(connection, self._number, job.identity) or 0
            now = heap_of(connection, job).blocks
            verification_ranges.plan(
                connection, self._number, job.identity, ranges(now, self.blocks, first=read_to)
            )
        connection.commit()

    def _read_all(self, connection: Connection, *looks: Callable[[Connection], Any]) -> list[Any]:
        """Read what is unread, several statements at once; the server does the work, so threads suffice.

        Returns what *looks* come to, which are taken beside it.
        """
        waiting = verification_ranges.unread(connection, self._number)
        connection.commit()
        known = [part.identity for part in self.plan.address_tables]
        hashes = [part for part in waiting if part.job in known]
        events = [part for part in waiting if part.job not in known]
        self._hashed.clear() if hashes else self._hashed.set()
        if not waiting and not looks:
            return []
        beside = [partial(self._look, look) for look in looks]
        tasks: list[Callable[[], Any]] = []
        if hashes and self._address is not None:
            tasks.append(partial(self._read_addresses, self._address, hashes))
        tasks += [*beside, *(partial(self._read_events, part) for part in events)]
        # Stopped, what is being read is finished and recorded, no more.
        results = dict(in_threads(self.workers + 1, _call, tasks, name="verify", failed=self._stopping.set))
        return [results[task] for task in beside]

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        """A connection in a transaction. They are kept: a new one has its caches to fill, which costs more than a look."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = self.engine.connect()
            self._open.callback(connection.close)
        with connection.begin():
            yield connection
        self._idle.put(connection)

    def _look(self, look: Callable[[Connection], Any]) -> Any:
        with self._session() as connection, self._slots:
            return look(connection)

    def _read_addresses(self, verifier: AddressVerifier, parts: Sequence[Part]) -> None:
        """One after the other: the client hashes, one thread at a time, while the server judges events."""
        for part in parts:
            if self._stopping.is_set():
                return
            with self._session() as connection:
                counts = RangeCounts(counts={Count.ROWS: 0})
                if has_column(connection, self.plan.addresses, self.plan.addresses.address):
                    counts = verifier.read(connection, part.range, self._slots)
                verification_ranges.record_range(connection, self._number, part, counts)
        self._hashed.set()

    def _read_events(self, part: Part) -> None:
        judge, known = self._judges[part.job], True
        with self._session() as connection:
            execute(connection, sql.SQL("set local work_mem = {}").format(sql.Literal(WORK_MEM)))
            if judge.asks_hashes:
                known = self._hashed.is_set()
            amiss = judge.asks_hashes and known and self._hashes_amiss(connection)
            counts = judge.read(connection, part.range, self._slots, hashes_amiss=amiss)
            verification_ranges.record_range(connection, self._number, part, counts, hashes_known=known)

    def _event_record(self, connection: Connection, job: Job) -> CoverageRecord:
        held = verification_ranges.held(connection, self._number, job.identity)
        record = self._judges[job.identity].verdict(connection, held)
        self.tell(f"{job.label}: {record.counts[Count.ROWS]:,} rows read")
        if record.covered and isinstance(job, InPlaceJob) and self.method is Method.FULL:
            record = self._with_unseen(connection, job, record)
        return replace(record, notes=(*record.notes, *self._bound(held))) if self.percent else record

    def _with_unseen(self, connection: Connection, job: InPlaceJob, record: CoverageRecord) -> CoverageRecord:
        """The *record*, if need be not covered: rows that moved while ranges were read."""
        snapshot = verification_ranges.snapshot(connection, self._number)
        since = WrittenSince.of(snapshot, heap_of(connection, job).blocks)
        with self._session() as session:
            found = self._judges[job.identity].read(session, since, self._slots, hashes_amiss=False)
        number = sum(found.counts.get(count, 0) for count in UNCOVERING)
        if not number:
            return record
        return replace(record, covered=False, reasons=(*record.reasons, reasons.unseen(job, number)))

    def _bound(self, held: list[RangeCounts]) -> tuple[str, ...]:
        """What a sample says about the rest."""
        bad = sum(any(map(one.counts.get, UNCOVERING)) for one in held)
        share = sample.upper_bound(bad, len(held)) if held else 1.0
        return (
            f"a sample: {bad:,} of {len(held):,} chunks of {sample.CHUNK_BLOCKS} blocks hold a row that is not covered; "
            f"with {sample.CONFIDENCE:.0%} confidence at most {share:.2%} of all chunks do",
        )

    def _enter(self, connection: Connection, records: list[CoverageRecord]) -> list[CoverageRecord]:
        """Put them on record, with where they came from."""
        snapshot = verification_ranges.snapshot(connection, self._number)
        places = {part.identity: raw_columns.place(connection, part) for part in self.plan.parts}
        entered = []
        for record in records:
            evidence = replace(
                record.evidence,
                geo_type=self._geo_type,
                geo_build=self._geo_build,
                version=__version__,
                verification=self._number,
                snapshot=snapshot,
                raw_column=places[record.job],
                percent=self.percent,
            )
            entered.append(replace(record, method=self.method, evidence=evidence))
            coverage.enter(connection, entered[-1], self.fingerprint)
        verification_ranges.finish(
            connection, self._number, sum(record.counts.get(Count.ROWS, 0) for record in records)
        )
        return entered


def _call(task: Callable[[], Any]) -> Any:
    return task()
