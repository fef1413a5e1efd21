"""Driver of a copying run: resolve and fill as in place, then each table built, replayed and compared."""

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill import escaping
from backfill.database.blocks import Range, heap_of
from backfill.database.columns import column_type
from backfill.database.connection import execute, problem_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.lock_retry import patiently, say_busy
from backfill.database.quoting import table
from backfill.engine import in_flight
from backfill.engine.control import Cancel, LockLost
from backfill.engine.driver import Driver
from backfill.engine.interrupts import Sleep, obedient
from backfill.engine.progress import Progress
from backfill.engine.run_batch import BatchResult, RetryPolicy, run_batch
from backfill.engine.run_context import Failed
from backfill.errors import CannotBeCopied, OneCopyATable, RunTakenOver, ShadowDiffers, ShadowExists
from backfill.jobs.row_needs import unlinked
from backfill.ledger import batches, quarantine, runs, shadow_copies
from backfill.ledger.address_map import MapIncomplete
from backfill.ledger.batches import Batch, PassCounts
from backfill.ledger.claims import Stopped
from backfill.ledger.phases import CLOSE, COMPARE, COPY, INDEX, RESOLVE
from backfill.ledger.run_state import RunState
from backfill.ledger.runs import TableCount
from backfill.ledger.shadow_copies import Stage
from backfill.plan import LinkJob, links
from backfill.shadow import build, names, table_definition
from backfill.shadow.cutover import Cutover, discard, leftovers
from backfill.shadow.expected_rows import ExpectedRows
from backfill.shadow.refusals import refusals_of
from backfill.shadow.table_definition import TableDefinition

POLL_SECONDS = 0.2


def require_copyable(connection: Connection, job: LinkJob) -> None:
    """Raises ``CannotBeCopied`` or ``ShadowExists``; changes nothing."""
    before = leftovers(connection, job)
    if before is not None:
        raise ShadowExists(
            table=job.label,
            state=f"{before} of an earlier cut-over is still there",
            fix=f"Next: `backfill cutover --finish {escaping.word(job.label)}`.",
        )
    what = refusals_of(connection, job)
    connection.rollback()
    if what:
        raise CannotBeCopied(table=job.label, what="; ".join(what))


def require_one_a_table(jobs: Sequence[LinkJob]) -> None:
    """Raises ``OneCopyATable`` where two jobs share a table: a copy is made for one of them."""
    first: dict[str, LinkJob] = {}
    for job in jobs:
        other = first.setdefault(job.table_identity, job)
        if other is not job:
            raise OneCopyATable(first=other.label, second=job.label)


def require_no_other_copy(engine: Engine, jobs: Sequence[LinkJob]) -> None:
    """Raises ``ShadowExists`` where a table has a copy for another job of it; asks the ledger."""
    with engine.begin() as connection:
        for job in jobs:
            other = shadow_copies.of_table(connection, job)
            if other is not None and other.job != job.identity:
                raise ShadowExists(
                    table=job.label,
                    state=f"its table has a copy for {other.job}, and a table has one copy at a time",
                    fix=f"`backfill cutover {escaping.word(other.job)}`, or `backfill run --abandon {escaping.word(other.job)}`, comes first.",
                )


@dataclass
class ShadowDriver(Driver):
    """A run whose rows go into a new table. ``drive`` ends before the cut-over."""

    strategy: str = "shadow"

    def cutover(self, fingerprint: str) -> Cutover:
        """The cut-over that goes with this run."""
        return Cutover(
            self.engine,
            self.schema,
            self.plan,
            fingerprint,
            self.resolver,
            self.settings.lock_timeout_ms,
            self.tell,
            self.settings.workers,
        )

    def _work(self) -> None:
        self._fill()
        expected = ExpectedRows(self.engine, self.schema, self.resolver)
        with expected, expected.ahead(links(self.jobs), self.plan.addresses, self._reads_on()):
            self._copy(expected)

    def _copy(self, expected: ExpectedRows) -> None:
        for job in links(self.jobs):
            definition = self._begun(job)
            self._load(job, definition)
            self._enter(INDEX)
            obedient(self.engine, self.control, self.run, partial(self._index, job, definition))
            self._require_loaded()
            self._enter(COMPARE)
            obedient(self.engine, self.control, self.run, partial(self._compare, job, expected))

    def _reads_on(self) -> Callable[[], bool]:
        """Whether the next range of texts may be read ahead; rests as long as every batch does.

        Holds and orders are the driver's to wait for: the comparison reads what is missing.
        """
        last = time.monotonic()

        def reads_on() -> bool:
            nonlocal last
            try:
                self.control.sleep(self.settings.nice * (time.monotonic() - last))
                last = time.monotonic()
                return not self.control.waits(self.run)
            except (Stopped, Cancel, LockLost, RunTakenOver, *DRIVER_ERRORS):
                return False

        return reads_on

    def _index(self, job: LinkJob, definition: TableDefinition, sleep: Sleep) -> None:
        """What is done already costs a look."""
        with self.engine.begin() as connection:
            build.drop_noted(connection, self.schema, job)
        build.build_indexes(self.engine, job, definition, self.settings.workers)
        build.add_foreign_keys(self.engine, job, definition, self.settings.lock_timeout_ms, sleep)
        with self.engine.begin() as connection:
            execute(connection, sql.SQL("analyze {}").format(table(names.shadow(job))))

    def _require_loaded(self) -> None:
        """A range that was given up would be a hole in the copy."""
        self.control.checkpoint(self.run)
        with self.engine.begin() as connection:
            given_up = batches.failures(connection, self.run.id)
        if given_up:
            raise Failed(f"{len(given_up)} batches could not be done; the first: {given_up[0].error}")

    def _begun(self, job: LinkJob) -> TableDefinition:
        """The copy that this run has begun, or now begins."""
        with self.engine.begin() as connection:
            entry = shadow_copies.shadow_of(connection, job)
            definition = table_definition.read_definition(connection, job)
        if entry is None:

            def begin(connection: Connection) -> TableDefinition:
                return build.begin(connection, self.schema, job, self.run.id)

            def try_to(sleep: Sleep) -> TableDefinition:
                timeout, busy = self.settings.lock_timeout_ms, say_busy(job.label, self.tell)
                return patiently(self.engine, timeout, begin, [table(job)], busy=busy, sleep=sleep)

            return obedient(self.engine, self.control, self.run, try_to)
        if entry.run_id != self.run.id:
            raise Failed(
                f"{job.label} has a copy of another run; remove it with `backfill run --abandon {escaping.word(job.label)}`"
            )
        if entry.stage == Stage.SWAPPED:
            raise Failed(f"{job.label} was cut over already")
        if entry.fingerprint != definition.fingerprint:
            raise Failed(
                f"the definition of {job.label} was changed after the copy was begun; "
                f"`backfill run --abandon {escaping.word(job.label)}`, and begin again"
            )
        return definition

    def _load(self, job: LinkJob, definition: TableDefinition) -> None:
        self._enter(COPY)
        while True:
            filenode = self._planned_copy(job)
            if not self.scheduler.is_open(COPY, job):
                return
            if self._load_once(job, definition, filenode):
                self.recovery.restarted(f"{job.label} keeps being rewritten")
                self.tell(f"{job.label} was rewritten meanwhile (VACUUM FULL, CLUSTER): copying it again.")
                with self.engine.begin() as connection:
                    execute(connection, sql.SQL("truncate {}").format(table(names.shadow(job))))
                    batches.forget(connection, self.run.id, phase=COPY, job=job.identity)

    def _planned_copy(self, job: LinkJob) -> int:
        """Plan the copy's one range, once the capture is on; returns the file that it is about."""
        with self.engine.begin() as connection:
            known = {row.job for row in batches.phase(connection, self.run.id, COPY)}
            if job.identity not in known:
                heap = heap_of(connection, job)
                runs.plan_table(connection, self.run.id, job.identity, heap)
                batches.plan(connection, self.run.id, COPY, job.identity, [Range(0, heap.blocks)], 1)
            self.scheduler.tables = runs.planned(connection, self.run.id)
        return int(self.scheduler.tables[job.identity].filenode)

    def _load_once(self, job: LinkJob, definition: TableDefinition, filenode: int) -> bool:
        """Until the table's phase is done; whether it was rewritten instead.

        Its batches alone: a driver that comes back meets those of a later table beside it.
        Threads: the server does the work, and a thread that waits for it holds nobody up.
        """
        retry_policy = RetryPolicy(self.timeouts, patience=0, nice=self.settings.nice)

        def work(batch: Batch, lease: uuid.UUID) -> PassCounts:
            return build.load(
                self.engine, self.schema, job, definition, batch, lease, filenode, self.timeouts, self.plan
            )

        def try_one(batch: Batch) -> BatchResult:
            done = run_batch(
                self.engine,
                batch.id,
                self.client_phases.stoppable(work),
                retry_policy,
                sleep=self.control.sleep,
            )
            if done.counts is not None:
                self.control.sleep(self.settings.nice * done.counts.seconds)
            return done

        def following(running: Sequence[Batch]) -> Batch | None:
            self.control.checkpoint(self.run)
            return self.scheduler.pick(COPY, frozenset(batch.id for batch in running), job)

        def idle() -> None:
            self.scheduler.take_back()
            self.control.sleep(POLL_SECONDS)

        with (
            Progress(
                f"{COPY} {job.label}", self.scheduler.rows_left(COPY, job), quiet=self.quiet
            ) as progress,
            ThreadPoolExecutor(self.settings.workers, COPY.name) as pool,
        ):
            for batch, future in in_flight.completed(
                lambda batch: pool.submit(try_one, batch),
                following,
                goes_on=lambda _: self.scheduler.is_open(COPY, job),
                slots=lambda: self.settings.workers,
                idle=idle,
                poll_seconds=POLL_SECONDS,
            ):
                result = future.result()
                if result.rewritten:
                    return True
                if result.map_incomplete:
                    raise MapIncomplete
                progress.advance(self.scheduler.take_in(result, batch))
        return False

    def _end(self, status: RunState, **values: str) -> None:
        """As any run; one that was cancelled takes its copies with it."""
        super()._end(status, **values)
        if status is not RunState.CANCELLED:
            return
        for job in links(self.jobs):
            try:
                if discard(self.engine, self.schema, job, self.run.id, self.settings.lock_timeout_ms):
                    self.tell(f"The copy of {job.label} is removed, with everything that belonged to it.")
            except DRIVER_ERRORS as error:
                self.tell(
                    f"The copy of {job.label} could not be removed ({problem_of(error)}): "
                    f"`backfill run --abandon {escaping.word(job.label)}`."
                )

    def _compare(self, job: LinkJob, expected: ExpectedRows, _sleep: Sleep) -> None:
        with Progress(
            f"{COMPARE} {job.label}", int(self.scheduler.tables[job.identity].rows), quiet=self.quiet
        ) as progress:
            try:
                self.cutover(self.run.identity.plan_fingerprint).prepare(job, expected, progress.advance)
            except ShadowDiffers as difference:
                raise Failed(str(difference)) from None

    def _close(self) -> list[TableCount]:
        """Count from the comparison. The map stays until the last copy serves: the replay looks texts up."""
        self._enter(CLOSE)
        counts = []
        for job in links(self.jobs):
            with self.engine.begin() as connection:
                quarantine.release_fixed(
                    connection, self.schema, job, column_type(connection, job, job.key), unlinked(job)
                )
                already = batches.already_linked(connection, self.run.id, RESOLVE, job.identity)
                entry = shadow_copies.shadow_of(connection, job)
                count = _counted(job, dict(entry.counts) if entry is not None else {}, already)
                runs.close_table(connection, self.run.id, count)
            counts.append(count)
        with self.engine.begin() as connection:
            runs.move(connection, self.run.id, RunState.SUCCEEDED, throttled=None, throttled_since=None)
        self.control.ending = True
        self.observe("finished", run=self.run.id)
        return counts


def _counted(job: LinkJob, counts: dict[str, int], already: int) -> TableCount:
    linked, total = counts.get("linked", 0), counts.get("rows", 0)
    rejected = counts.get("rejected", 0)
    return TableCount(
        job=job.identity,
        rows=total,
        linked=linked - min(already, linked),
        already_linked=min(already, linked),
        no_address=total - linked - rejected,
        quarantined=rejected,
        left_to_live=0,
    )
