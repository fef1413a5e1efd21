"""Table copy: one table's, from the capture of its changes to the comparison of every row."""

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from psycopg2 import sql
from sqlalchemy import Connection

from backfill import escaping
from backfill.database.blocks import Range, heap_of
from backfill.database.connection import execute
from backfill.database.lock_retry import patiently, say_busy
from backfill.database.quoting import table
from backfill.engine import in_flight
from backfill.engine.interrupts import Sleep, obedient
from backfill.engine.progress import Progress
from backfill.engine.run_batch import BatchResult, RetryPolicy, run_batch
from backfill.engine.run_context import Failed, RunContext
from backfill.engine.run_phases import RunPhases
from backfill.errors import ShadowDiffers
from backfill.ledger import batches, runs, shadow_copies
from backfill.ledger.address_map import MapIncomplete
from backfill.ledger.batches import Batch, PassCounts
from backfill.ledger.phases import COMPARE, COPY, INDEX
from backfill.ledger.shadow_copies import Stage
from backfill.plan import LinkJob
from backfill.shadow import build, names, table_definition
from backfill.shadow.cutover import Cutover
from backfill.shadow.expected_rows import ExpectedRows
from backfill.shadow.table_definition import TableDefinition

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class TableCopy:
    """The copy of *job*'s table that a run makes; what is done already costs a look."""

    phases: RunPhases
    job: LinkJob
    cutover: Cutover

    @property
    def context(self) -> RunContext:
        """The run's."""
        return self.phases.context

    def make(self, expected: ExpectedRows) -> None:
        """Until the copy is ready for its cut-over. Raises ``Failed`` where it is not like the original."""
        context, definition = self.context, self._begun()
        with self.phases.entered(COPY):
            self._load(definition)
        with self.phases.entered(INDEX):
            obedient(context.engine, context.control, context.run, partial(self._index, definition))
            self._require_loaded()
        with self.phases.entered(COMPARE):
            obedient(context.engine, context.control, context.run, partial(self._compare, expected))

    def _index(self, definition: TableDefinition, sleep: Sleep) -> None:
        """What is done already costs a look."""
        context = self.context
        with context.engine.begin() as connection:
            build.drop_noted(connection, context.schema, self.job)
        build.build_indexes(context.engine, self.job, definition, context.settings.workers)
        build.add_foreign_keys(context.engine, self.job, definition, context.settings.lock_timeout_ms, sleep)
        with context.engine.begin() as connection:
            execute(connection, sql.SQL("analyze {}").format(table(names.shadow(self.job))))

    def _require_loaded(self) -> None:
        """A range that was given up would be a hole in the copy."""
        context = self.context
        context.control.checkpoint(context.run)
        with context.engine.begin() as connection:
            given_up = batches.failures(connection, context.run.id)
        if given_up:
            raise Failed(f"{len(given_up)} batches could not be done; the first: {given_up[0].error}")

    def _begun(self) -> TableDefinition:
        """The copy that this run has begun, or now begins."""
        context = self.context
        with context.engine.begin() as connection:
            entry = shadow_copies.shadow_of(connection, self.job)
            definition = table_definition.read_definition(connection, self.job)
        if entry is None:

            def begin(connection: Connection) -> TableDefinition:
                return build.begin(connection, context.schema, self.job, context.run.id)

            def try_to(sleep: Sleep) -> TableDefinition:
                timeout, busy = context.settings.lock_timeout_ms, say_busy(self.job.label, context.tell)
                return patiently(context.engine, timeout, begin, [table(self.job)], busy=busy, sleep=sleep)

            return obedient(context.engine, context.control, context.run, try_to)
        if entry.run_id != context.run.id:
            raise Failed(
                f"{self.job.label} has a copy of another run; remove it with `backfill run --abandon {escaping.word(self.job.label)}`"
            )
        if entry.stage == Stage.SWAPPED:
            raise Failed(f"{self.job.label} was cut over already")
        if entry.fingerprint != definition.fingerprint:
            raise Failed(
                f"the definition of {self.job.label} was changed after the copy was begun; "
                f"`backfill run --abandon {escaping.word(self.job.label)}`, and begin again"
            )
        return definition

    def _load(self, definition: TableDefinition) -> None:
        context, scheduler = self.context, self.phases.scheduler
        while True:
            filenode = self._planned_copy()
            if not scheduler.is_open(COPY, self.job):
                return
            if self._load_once(definition, filenode):
                self.phases.recovery.restarted(f"{self.job.label} keeps being rewritten")
                context.tell(
                    f"{self.job.label} was rewritten meanwhile (VACUUM FULL, CLUSTER): copying it again."
                )
                with context.engine.begin() as connection:
                    execute(connection, sql.SQL("truncate {}").format(table(names.shadow(self.job))))
                    batches.forget(connection, context.run.id, phase=COPY, job=self.job.identity)

    def _planned_copy(self) -> int:
        """Plan the copy's one range, once the capture is on; returns the file that it is about."""
        context, scheduler = self.context, self.phases.scheduler
        with context.engine.begin() as connection:
            known = {row.job for row in batches.phase(connection, context.run.id, COPY)}
            if self.job.identity not in known:
                heap = heap_of(connection, self.job)
                runs.plan_table(connection, context.run.id, self.job.identity, heap)
                batches.plan(connection, context.run.id, COPY, self.job.identity, [Range(0, heap.blocks)], 1)
            scheduler.tables = runs.planned(connection, context.run.id)
        return int(scheduler.tables[self.job.identity].filenode)

    def _load_once(self, definition: TableDefinition, filenode: int) -> bool:
        """Until the table's phase is done; whether it was rewritten instead.

        Its batches alone: a driver that comes back meets those of a later table beside it.
        Threads: the server does the work, and a thread that waits for it holds nobody up.
        """
        context, scheduler = self.context, self.phases.scheduler
        retry_policy = RetryPolicy(context.timeouts, patience=0, nice=context.settings.nice)

        def work(batch: Batch, lease: uuid.UUID) -> PassCounts:
            return build.load(
                context.engine,
                context.schema,
                self.job,
                definition,
                batch,
                lease,
                filenode,
                context.timeouts,
                context.plan,
            )

        def try_one(batch: Batch) -> BatchResult:
            done = run_batch(
                context.engine,
                batch.id,
                self.phases.client.stoppable(work),
                retry_policy,
                sleep=context.control.sleep,
                before_batch=context.hooks.before_batch,
            )
            if done.counts is not None:
                context.control.sleep(context.settings.nice * done.counts.seconds)
            return done

        def following(running: Sequence[Batch]) -> Batch | None:
            context.control.checkpoint(context.run, progress.wait)
            return scheduler.pick(COPY, frozenset(batch.id for batch in running), self.job)

        def idle() -> None:
            scheduler.take_back()
            context.control.sleep(POLL_SECONDS)

        with (
            Progress(
                f"{COPY} {self.job.label}", *scheduler.rows(COPY, self.job), quiet=context.quiet
            ) as progress,
            ThreadPoolExecutor(context.settings.workers, COPY.name) as pool,
        ):
            for batch, future in in_flight.completed(
                lambda batch: pool.submit(try_one, batch),
                following,
                goes_on=lambda _: scheduler.is_open(COPY, self.job),
                slots=lambda: context.settings.workers,
                idle=idle,
                poll_seconds=POLL_SECONDS,
            ):
                result = future.result()
                if result.rewritten:
                    return True
                if result.map_incomplete:
                    raise MapIncomplete
                progress.advance(scheduler.take_in(result, batch))
            progress.finish()
        return False

    def _compare(self, expected: ExpectedRows, _sleep: Sleep) -> None:
        context, scheduler = self.context, self.phases.scheduler
        with Progress(
            f"{COMPARE} {self.job.label}", int(scheduler.tables[self.job.identity].rows), quiet=context.quiet
        ) as progress:
            try:
                self.cutover.prepare(self.job, expected, progress.advance)
            except ShadowDiffers as difference:
                raise Failed(str(difference)) from None
            progress.finish()
