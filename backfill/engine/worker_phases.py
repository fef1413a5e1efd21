"""Crew: the workers of a run's link phases, kept busy until the phase is done, and replaced when lost."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg2
from sqlalchemy.exc import DBAPIError

from backfill.engine.pool import Pool, PoolBroken, outcomes
from backfill.engine.progress import Progress
from backfill.engine.recovery import Mender
from backfill.engine.run_batch import Terms
from backfill.engine.run_context import Errand, Failed, MapEmptied
from backfill.engine.scheduler import Ranges
from backfill.engine.vacuum import Vacuumer
from backfill.engine.worker import Setup, Ticket
from backfill.errors import SchemaUnfit, TransitionRefused
from backfill.ledger import runs
from backfill.ledger.batches import Batch
from backfill.ledger.claims import LEASE_SECONDS
from backfill.ledger.run_state import RunStatus

# By then whatever a dead worker held has been taken back; or something is amiss, and all of it is.
IDLE_SECONDS = LEASE_SECONDS + 15

MakePool = Callable[[Setup, int, Callable[[float], None]], AbstractContextManager[Pool]]


class Crew:
    """One run's, for its driver."""

    def __init__(
        self, errand: Errand, ranges: Ranges, mender: Mender, vacuumer: Vacuumer, make_pool: MakePool
    ) -> None:
        self._errand, self._ranges, self._mender = errand, ranges, mender
        self._vacuumer, self._make_pool = vacuumer, make_pool
        self._pool: Pool | None = None

    def kill(self) -> None:
        """End the workers at once, where there are any; from any thread."""
        if self._pool is not None:
            self._pool.kill()

    def link(self, phase: str, passes: int) -> int:
        """Do all of *phase*; returns the rows written. Raises what ``Control.look`` raises, and ``MapEmptied``."""
        errand, ranges = self._errand, self._ranges
        while True:
            for job in errand.jobs:
                ranges.plan(phase, job, passes)
            errand.control.checkpoint(errand.run)
            if not ranges.is_open(phase):
                return ranges.written(phase)
            try:
                self._work(phase)
            except PoolBroken as broken:
                errand.tell(f"A worker was lost ({broken}); its batch goes back to its checkpoint.")
                self._mender.restarted("workers keep dying")
                self._mender.back_to_checkpoints("worker-lost")
            except _Rewritten as moved:
                self._mender.restarted(f"{moved} keeps being rewritten or changed")
                self._see_again(f"{moved}")
                ranges.forget_rewritten(phase)

    def _see_again(self, table: str) -> None:
        """Preflight once more, for a table that is not what it was; raises ``Failed`` where it is in the way now."""
        errand = self._errand
        try:
            definitions = errand.see()
        except SchemaUnfit as unfit:
            raise Failed(f"{table} was changed while the run was at work. {unfit}") from None
        with errand.engine.begin() as connection:
            changed = runs.set_definitions(connection, errand.run.id, definitions)
        if changed:
            errand.tell(f"{table} was changed meanwhile; preflight found nothing in the way: going on.")

    def _work(self, phase: str) -> None:
        """Until the phase is done, or somebody stops it; the caller asks which."""
        errand, ranges = self._errand, self._ranges
        taken: dict[int, Batch] = {}
        worked = time.monotonic()  # or waited, for a reason that is written in the status

        def following(in_flight: frozenset[int]) -> Ticket | None:
            nonlocal worked
            if errand.control.waits(errand.run):
                worked = time.monotonic()
                return None
            batch = ranges.pick(phase, in_flight)
            if batch is not None or in_flight:
                worked = time.monotonic()
            if batch is None:
                if time.monotonic() - worked >= IDLE_SECONDS:
                    raise PoolBroken(f"nobody is at work, and no batch was free for {IDLE_SECONDS} s")
                return None
            taken[batch.id] = batch
            return Ticket(batch.id, batch.job, ranges.tables[batch.job].filenode)

        def stopping() -> bool:
            if ranges.take_back() & taken.keys():  # hung, or cut off: whoever had it may write no more
                raise PoolBroken("its lease ran out")
            paused = errand.control.paused(errand.run)
            if paused and errand.control.stopping:
                self._tell_workers_to_stop()
            return paused or not ranges.is_open(phase)

        with (
            Progress(phase, ranges.rows_left(phase), quiet=errand.quiet) as progress,
            self._pooled() as pool,
        ):
            for outcome in outcomes(pool, following, stopping):
                batch = taken.pop(outcome.batch_id)
                if outcome.rewritten:
                    raise _Rewritten(errand.plan.label(batch.job))
                if outcome.map_incomplete:
                    raise MapEmptied
                progress.advance(ranges.take_in(outcome, batch))
                if outcome.account is not None:
                    self._vacuumer.written(errand.plan.job(batch.job), outcome.account.written)

    @contextmanager
    def _pooled(self) -> Iterator[Pool]:
        errand, settings = self._errand, self._errand.settings
        setup = Setup(
            errand.engine.url.render_as_string(hide_password=False),
            errand.schema,
            errand.plan,
            Terms(errand.limits, settings.patience, settings.nice),
            settings.silence,
        )
        with self._make_pool(setup, settings.workers, errand.control.sleep) as self._pool:
            try:
                yield self._pool
            finally:
                self._pool = None

    def _tell_workers_to_stop(self) -> None:
        """Through the ledger: each asks it between two transactions."""
        with (
            contextlib.suppress(DBAPIError, psycopg2.Error, TransitionRefused),
            self._errand.engine.begin() as connection,
        ):
            if runs.get(connection, self._errand.run.id).status is RunStatus.RUNNING:
                runs.move(connection, self._errand.run.id, RunStatus.PAUSING)


class _Rewritten(Exception):
    """That table's blocks lie elsewhere now."""
