"""Worker phases: supervises the workers of a phase: keeps them busy until it is done, replaces those that are lost."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from backfill.database.error_text import DRIVER_ERRORS
from backfill.engine.pool import Pool, PoolBroken, outcomes
from backfill.engine.progress import Progress
from backfill.engine.recovery import Recovery
from backfill.engine.run_batch import RetryPolicy
from backfill.engine.run_context import Failed, RunContext
from backfill.engine.scheduler import BatchScheduler
from backfill.engine.vacuum import Vacuumer
from backfill.engine.worker import BatchRef, WorkerConfig
from backfill.errors import SchemaUnfit, TableRewritten, TransitionRefused
from backfill.ledger import claims, runs
from backfill.ledger.address_map import MapIncomplete
from backfill.ledger.batches import Batch
from backfill.ledger.claims import LEASE_SECONDS
from backfill.ledger.phases import Phase
from backfill.ledger.run_state import RunState

# By then whatever a dead worker held has been taken back; or something is amiss, and all of it is.
IDLE_SECONDS = LEASE_SECONDS + 15

MakePool = Callable[[WorkerConfig, int, Callable[[float], None]], AbstractContextManager[Pool]]


class WorkerPhases:
    """One run's, for its driver."""

    def __init__(
        self,
        context: RunContext,
        scheduler: BatchScheduler,
        recovery: Recovery,
        vacuumer: Vacuumer,
        make_pool: MakePool,
    ) -> None:
        self._context, self._scheduler, self._recovery = context, scheduler, recovery
        self._vacuumer, self._make_pool = vacuumer, make_pool
        self._pool: Pool | None = None
        self._left: set[int] = (
            set()
        )  # batches of workers that did not come to their checkpoint, and were killed

    def kill(self) -> None:
        """End the workers at once, where there are any; from any thread."""
        if self._pool is not None:
            self._pool.kill()

    def link(self, phase: Phase, passes: int) -> int:
        """Do all of *phase*; returns the rows written. Raises what ``Control.look`` raises, and ``MapIncomplete``."""
        context, scheduler = self._context, self._scheduler
        while True:
            for job in context.jobs:
                scheduler.plan(phase, job, passes)
            context.control.checkpoint(context.run, self._hand_back)
            if not scheduler.is_open(phase):
                return scheduler.written(phase)
            try:
                self._work(phase)
            except PoolBroken as broken:
                context.tell(f"A worker was lost ({broken}); its batch goes back to its checkpoint.")
                self._recovery.restarted("workers keep dying")
                self._recovery.back_to_checkpoints("worker-lost")
            except TableRewritten as moved:
                table = moved.detail["table"]
                self._recovery.restarted(f"{table} keeps being rewritten or changed")
                self._see_again(table)
                scheduler.forget_rewritten(phase)

    def _hand_back(self) -> None:
        """While the run is paused: what killed workers had in hand, so that no status names them any more.

        Where a server process of theirs is still at work, the next time.
        """
        if not self._left:
            return
        with contextlib.suppress(*DRIVER_ERRORS), self._context.engine.begin() as connection:
            claims.take_back(connection, sorted(self._left))
            self._left &= {lease.batch_id for lease in claims.leases(connection, self._context.run.id)}

    def _see_again(self, table: str) -> None:
        """Preflight once more, for a table that is not what it was; raises ``Failed`` where it is in the way now."""
        context = self._context
        try:
            definitions = context.see()
        except SchemaUnfit as unfit:
            raise Failed(f"{table} was changed while the run was at work. {unfit}") from None
        with context.engine.begin() as connection:
            changed = runs.set_definitions(connection, context.run.id, definitions)
        if changed:
            context.tell(f"{table} was changed meanwhile; preflight found nothing in the way: going on.")

    def _work(self, phase: Phase) -> None:
        """Until the phase is done, or somebody stops it; the caller asks which."""
        context, scheduler = self._context, self._scheduler
        taken: dict[int, Batch] = {}
        worked = time.monotonic()  # or waited, for a reason that is written in the status

        def following(in_flight: frozenset[int]) -> BatchRef | None:
            nonlocal worked
            if context.control.waits(context.run):
                progress.wait()
                worked = time.monotonic()
                return None
            batch = scheduler.pick(phase, in_flight)
            if batch is not None or in_flight:
                worked = time.monotonic()
            if batch is None:
                if time.monotonic() - worked >= IDLE_SECONDS:
                    raise PoolBroken(f"nobody is at work, and no batch was free for {IDLE_SECONDS} s")
                return None
            taken[batch.id] = batch
            filenode = scheduler.tables[batch.job].filenode
            return BatchRef(batch.id, batch.job, filenode, context.run.created, scheduler.beside(batch))

        def stopping() -> bool:
            if scheduler.take_back() & taken.keys():  # hung, or cut off: whoever had it may write no more
                raise PoolBroken("its lease ran out")
            paused = context.control.paused(context.run)
            if paused and context.control.stopping:
                self._tell_workers_to_stop()
            return paused or not scheduler.is_open(phase)

        with (
            Progress(phase.name, *scheduler.rows(phase), quiet=context.quiet) as progress,
            self._pooled() as pool,
        ):
            for result in outcomes(pool, following, stopping):
                batch = taken.pop(result.batch_id)
                if result.rewritten:
                    raise TableRewritten(table=context.plan.label(batch.job))
                if result.map_incomplete:
                    raise MapIncomplete
                progress.advance(scheduler.take_in(result, batch))
                if result.counts is not None:
                    self._vacuumer.written(context.plan.job(batch.job), result.counts.written)
            self._left = set(taken)
            if not scheduler.is_open(phase):
                progress.finish()

    @contextmanager
    def _pooled(self) -> Iterator[Pool]:
        context, settings = self._context, self._context.settings
        config = WorkerConfig(
            context.engine.url.render_as_string(hide_password=False),
            context.schema,
            context.plan,
            RetryPolicy(context.timeouts, settings.patience, settings.nice),
            settings.silence,
            context.hooks.before_batch,
        )
        with self._make_pool(config, settings.workers, context.control.sleep) as self._pool:
            try:
                yield self._pool
            finally:
                self._pool = None

    def _tell_workers_to_stop(self) -> None:
        """Through the ledger: each asks it between two transactions."""
        with (
            contextlib.suppress(*DRIVER_ERRORS, TransitionRefused),
            self._context.engine.begin() as connection,
        ):
            if runs.get(connection, self._context.run.id).status is RunState.RUNNING:
                runs.move(connection, self._context.run.id, RunState.PAUSING)
