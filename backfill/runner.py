"""The run: expand → calibrate → resolve → link → fill → sweep → close, each phase from its checkpoints.

1. Take the run's lock; find the run to resume, or begin one.
2. Resolve every distinct text into the map (this process: the salt stays here).
3. Link block ranges (workers).
4. Fill what the live application left empty in the address table; quarantine duplicates.
5. Sweep: rows that moved or arrived meanwhile, three times at most.
6. Count from the data, and close.

Whatever passes (a server that restarts, a fail-over, a locked table) leads back to the first phase
that is not done: a phase that is costs a look.
"""

import contextlib
import random
import uuid
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from psycopg2 import sql
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import DBAPIError

from backfill.attempt import Outcome, Terms, Work, attempt
from backfill.control import Cancel, Control, Deadline, LockLost, Stop
from backfill.database.engine import execute, problem_of, sqlstate_of
from backfill.database.heap import Range, heap_of
from backfill.database.inspection import key_type
from backfill.database.limits import Limits
from backfill.database.trouble import LIMITS, LOST, TableLocked, Trouble, trouble_of
from backfill.errors import (
    ExecutorUnusable,
    RunCancelled,
    RunFailed,
    RunPaused,
    RunTakenOver,
    TransitionRefused,
)
from backfill.interrupt import interruptible
from backfill.jobs import closing, fill, resolve
from backfill.jobs.resolve import Resolver
from backfill.ledger import address_map, batches, quarantine, runs
from backfill.ledger.batches import Account, Batch
from backfill.ledger.lock import RunLock, in_progress, run_lock, wait_for
from backfill.ledger.runs import Identity, Run, TableCount
from backfill.ledger.status import RunStatus
from backfill.plan import Job, Plan, Table
from backfill.pool import Pool, PoolBroken, local, outcomes, warm_up
from backfill.progress import Progress
from backfill.settings import Settings
from backfill.sizing import Sizer
from backfill.throttle import chosen
from backfill.throttle.watch import Watch
from backfill.vacuum import Vacuumer
from backfill.worker import Setup, Ticket

RESOLVE, LINK, FILL, SWEEP, CLOSE = "resolve", "link", "fill", "sweep", "close"
SWEEPS = 3  # under constant inserts there is always one row more
SWEEP_FACTOR = 4  # a sweep reads much and writes little: larger ranges
RESTARTS = 10  # in a row, without a batch done between: then something is wrong that does not pass
OUT_OF_RESOURCES = "53"  # disk full, out of memory: every other batch would fail as well

__all__ = ["Driver", "run_lock"]


@dataclass
class Driver:
    """Drives one run; used once. ``drive`` is the whole of it."""

    engine: Engine
    settings: Settings
    plan: Plan
    jobs: tuple[Job, ...]
    resolver: Resolver
    strays: int = 0
    quiet: bool = False
    tell: Callable[[str], None] = print
    deadline: Deadline = field(default_factory=Deadline)
    observe: Callable[..., None] = lambda event, **fields: None  # started, phase, paused, held, failed, …
    pool: Callable[[Setup, int, Callable[[float], None]], AbstractContextManager[Pool]] = local
    strategy: str = "in-place"
    run: Run = field(init=False)
    control: Control = field(init=False)
    _lock: RunLock = field(init=False)
    _watch: Watch = field(init=False)
    _vacuumer: Vacuumer = field(init=False)
    _pool_now: Pool | None = field(default=None, init=False)
    _tables: dict[str, Row[Any]] = field(default_factory=dict, init=False)  # the run's tables as noted
    _sizers: dict[str, Sizer] = field(default_factory=dict, init=False)
    _restarts: int = field(default=0, init=False)
    _troubles: dict[Trouble, int] = field(default_factory=dict, init=False)

    @property
    def schema(self) -> str:
        """The ledger's schema."""
        return self.settings.ledger_schema

    @property
    def limits(self) -> Limits:
        """Of each transaction of a batch."""
        return Limits(statement=self.settings.timeout_seconds)

    def drive(self, key_id: str) -> list[TableCount]:
        """Bring the run to its end and return its closing counts.

        Raises ``RunInProgress``, ``RunPaused`` (stopped by a signal or by the clock), ``RunCancelled``,
        ``RunTakenOver`` and ``RunFailed`` (blocks that could not be done, or an error that does not pass).
        """
        with run_lock(self.engine, self.schema) as self._lock:
            self.control = Control(
                self.engine, self._lock, self.deadline, lambda event: self.observe(event, run=self.run.id)
            )
            return interruptible(
                self.engine, self.control, lambda: self._drive(key_id), self.tell, self._kill_workers
            )

    def _kill_workers(self) -> None:
        if self._pool_now is not None:
            self._pool_now.kill()

    def _drive(self, key_id: str) -> list[TableCount]:
        self._begin(key_id)
        self._watch = Watch(
            self.engine,
            self.schema,
            chosen.sensors(self.settings),
            chosen.snapshot(self.settings),
            self._held_or_released,
        )
        self._vacuumer = Vacuumer(self.engine, self.schema, self.settings.vacuum)
        if self.pool is local:
            warm_up(self.settings.workers)
        try:
            self._watch.start(self.run.id)
            return self._until_done()
        except Stop as stop:
            self._end(RunStatus.PAUSED, reason=str(stop))
            raise RunPaused(run=self.run.id, reason=str(stop)) from None
        except Cancel:
            self._end(RunStatus.CANCELLED, reason="cancelled by the operator")
            raise RunCancelled(run=self.run.id) from None
        except ExecutorUnusable as unusable:
            self._end(RunStatus.FAILED, error=str(unusable))
            raise
        except _Failed as failure:
            self._end(RunStatus.FAILED, error=str(failure))
            raise RunFailed(run=self.run.id, problem=str(failure)) from None
        finally:
            self._vacuumer.stop()
            self._watch.stop()

    def _held_or_released(self, event: str, reason: str) -> None:
        self.observe(event, run=self.run.id, reason=reason)
        self.tell(f"Waiting: {reason}." if reason else "Going on.")

    def _end(self, status: RunStatus, **values: str) -> None:
        """Write down how it ended, and clear up where it is for good."""
        self.control.ending = True
        for _ in range(RESTARTS):
            try:
                with self.engine.begin() as connection:
                    now = runs.get(connection, self.run.id)
                    if now.status is not status:
                        runs.move(connection, self.run.id, status, held=None, held_since=None, **values)
                    else:
                        runs.note(connection, self.run.id, held=None, held_since=None, **values)
                    if status is RunStatus.CANCELLED:
                        address_map.drop(connection, self.schema)
                break
            except TransitionRefused:
                return  # somebody cancelled meanwhile: the next command clears up
            except (DBAPIError, psycopg2.Error) as error:
                if trouble_of(error) is not Trouble.STATEMENT_TIMEOUT:  # our own cancel, a moment late
                    self.tell(
                        f"That could not be recorded ({problem_of(error)}); `backfill run` goes on all the same."
                    )
                    return
        self.observe(status.value, run=self.run.id, **values)

    def _until_done(self) -> list[TableCount]:
        """All phases and the closing; back to the first that is not done, whenever something passes."""
        while True:
            try:
                self._lock.beat_for(self.run.id)
                self._phases()
                return self._close()
            except (DBAPIError, psycopg2.Error, TableLocked) as error:
                self._mend(trouble_of(error), error)
            except LockLost:
                self._mend(Trouble.CONNECTION_LOST, None)
            except TransitionRefused:
                self.control.checkpoint(self.run)  # paused or cancelled at the last moment

    def _mend(self, trouble: Trouble | None, error: Exception | None) -> None:
        """Get over *error*, or raise ``_Failed`` when it is none that passes."""
        if self.control.stopping:
            raise Stop(self.control.reason)
        problem = problem_of(error) if error else "the session of the run's lock was lost"
        if trouble is None:
            raise _Failed(f"{sqlstate_of(error) if error else ''}: {problem}")
        if trouble not in LOST and not self._lock.lost.is_set():
            self._troubles[trouble] = self._troubles.get(trouble, 0) + 1
            limit = LIMITS[trouble].attempts or RESTARTS * 6
            if trouble is Trouble.STATEMENT_TIMEOUT:  # reading a range ahead of its batch
                for sizer in self._sizers.values():
                    sizer.timed_out(sizer.blocks)
            if self._troubles[trouble] > limit:
                raise _Failed(f"{trouble}, {limit} times: {problem}")
            self.tell(f"{trouble}: {problem}. Trying again.")
            self.control.sleep(random.uniform(0.2, 2.0))  # noqa: S311 -- jitter
        else:
            self.tell(f"The connection was lost: {problem}.")
            self._reconnect()
        with self.engine.begin() as connection:
            runs.count_retry(connection, self.run.id, trouble)
            batches.reclaim(connection, self.run.id, failed=False)

    def _reconnect(self) -> None:
        """Have the lock again, and the run still; raises ``_Failed``, ``RunTakenOver``, ``RunInProgress``."""
        self.engine.dispose()
        try:
            if not wait_for(self._lock, self.control.sleep, self.settings.patience, self.tell):
                raise in_progress(self.engine)
        except (DBAPIError, psycopg2.Error) as error:
            raise _Failed(f"no server within {self.settings.patience:g} s: {problem_of(error)}") from error
        with self.engine.begin() as connection:
            now = runs.get(connection, self.run.id)
        if (now.holder, now.attempts) != (self.run.holder, self.run.attempts):
            raise RunTakenOver(run=self.run.id, holder=now.holder)
        self._lock.beat_for(self.run.id)
        self.tell("Connected again; going on from the last checkpoint.")

    def _begin(self, key_id: str) -> None:
        identity = Identity(
            jobs=tuple(job.name for job in self.jobs),
            plan_name=self.plan.name,
            plan_fingerprint=self.plan.fingerprint(key_id),
            scheme=self.plan.hash.scheme,
            key_id=key_id,
            geo_type=self.resolver.geo.provenance.database_type,
            geo_build=self.resolver.geo.provenance.build,
            strategy=self.strategy,
        )
        with self.engine.begin() as connection:
            earlier = runs.unfinished(connection, identity)
            if earlier is None:
                self.run = runs.create(connection, identity, strays=self.strays, phase=RESOLVE)
                self._new_map(connection)
            else:
                self.run = runs.resume(connection, earlier)
                batches.reclaim(connection, self.run.id, failed=True)
                self._tables = runs.planned(connection, self.run.id)
                self.tell(f"Resuming run {self.run.id}, phase {self.run.phase}, attempt {self.run.attempts}.")
        self.observe("started", run=self.run.id, attempt=self.run.attempts)

    def _new_map(self, connection: Connection) -> None:
        address_map.create(connection, self.schema, self.plan.addresses)
        runs.set_map_rows(connection, self.run.id, 0)
        batches.restart(connection, self.run.id, phase=RESOLVE)

    def _phases(self) -> None:
        """All phases; those that are done cost a look. Begins again when the map was emptied."""
        while True:
            try:
                self._check_map()
                self._resolve(RESOLVE)
                with self.engine.begin() as connection:
                    address_map.complete(connection, self.schema, self.run.id)
                    # The planner has to know the size of the map; its columns have statistics 0.
                    execute(connection, sql.SQL("analyze {}").format(address_map.name(self.schema)))
                self._work()
            except _MapEmptied:
                self._restarted("the server keeps losing the address map")
            else:
                return

    def _work(self) -> None:
        """What comes after the map; a run that copies does something else here."""
        self._link(LINK, self.settings.passes)
        self._fill()
        self._sweep()

    def _check_map(self) -> None:
        """Start resolve again where the map is not what the logged count says."""
        with self.engine.begin() as connection:
            self.run = runs.get(connection, self.run.id)
            if (
                not address_map.exists(connection, self.schema)
                or address_map.count(connection, self.schema) != self.run.map_rows
            ):
                if self.run.map_rows:
                    self.tell("The address map was emptied by a crash of the server: resolving again.")
                self._new_map(connection)

    def _restarted(self, problem: str) -> None:
        """Count a new beginning; raises ``_Failed`` when one follows the other without any progress."""
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise _Failed(problem)

    def _planned(self, phase: str, part: Table, passes: int = 1) -> None:
        """Enter the phase's one range for that table, unless it is there; it is split as it is worked on."""
        with self.engine.begin() as connection:
            known = {row.table_name for row in batches.phase(connection, self.run.id, phase)}
            if part.name in known:
                return
            heap = heap_of(connection, part)
            if phase == LINK or part.name not in self._tables:
                runs.plan_table(connection, self.run.id, part.name, heap)
                self._tables = runs.planned(connection, self.run.id)
            # An empty table has one empty batch, so that it counts as planned.
            batches.plan(connection, self.run.id, phase, part.name, [Range(0, heap.blocks)], passes)

    def _enter(self, phase: str) -> None:
        self.control.checkpoint(self.run)
        with self.engine.begin() as connection:
            runs.enter(connection, self.run.id, phase)
        self.observe("phase", run=self.run.id, phase=phase)

    def _sizer(self, phase: str) -> Sizer:
        """How large the phase's batches are; sweeps of a kind share one."""
        sweep = phase.startswith(SWEEP)
        kind = f"{SWEEP}-{phase.rsplit('-', 1)[-1]}" if sweep else phase
        if kind not in self._sizers:
            ceiling = self.settings.batch_blocks * (SWEEP_FACTOR if sweep else 1)
            self._sizers[kind] = Sizer(self.settings.target_seconds, min(ceiling, 2**31))
        return self._sizers[kind]

    def _pick(self, phase: str, besides: frozenset[int] = frozenset()) -> Batch | None:
        size = self._sizer(phase).blocks
        with self.engine.begin() as connection:
            batch = batches.pick(
                connection,
                self.run.id,
                phase,
                tables=[job.name for job in self.jobs] + [self.plan.addresses.name],
                blocks=size,
                one_pass=self._watch.pinned is not None,
                besides=besides,
            )
            if batch is not None:
                runs.note(connection, self.run.id, batch_blocks=size)
        return batch

    def _is_open(self, phase: str) -> bool:
        with self.engine.begin() as connection:
            return batches.open_batches(connection, self.run.id, phase) > 0

    def _written(self, phase: str) -> int:
        with self.engine.begin() as connection:
            return batches.written(connection, self.run.id, phase)

    def _take_in(self, outcome: Outcome, batch: Batch) -> int:
        """Learn from what became of a batch; returns the rows that are done with it."""
        blocks = batch.range.last - batch.range.first
        if outcome.account is not None:
            self._restarts = 0
            self._troubles.clear()
            self._sizer(batch.phase).measured(blocks, outcome.account.seconds)
            return self._rows(batch)
        if outcome.halved is not None:
            self._sizer(batch.phase).timed_out(blocks)
            self.tell(f"{batch.table_name}: {blocks} blocks met {outcome.halved} three times; halved.")
        elif outcome.error is not None:
            self.observe("batch-failed", run=self.run.id, table=batch.table_name, error=outcome.error)
            self.tell(f"{_shown(batch)} could not be done: {outcome.error}. Going on with the others.")
            if outcome.error.startswith(OUT_OF_RESOURCES):
                raise _Failed(f"{_shown(batch)}: {outcome.error}")
        return 0

    def _do(self, batch: Batch, work: Work) -> int:
        """Do one batch in this process; returns the rows that are done with it."""
        terms = Terms(self.limits, patience=0, nice=self.settings.nice)
        outcome = attempt(self.engine, batch.id, self._stoppable(work), terms, sleep=self.control.sleep)
        if outcome.error is not None and self.control.stopping:
            raise Stop(self.control.reason)
        done = self._take_in(outcome, batch)
        if outcome.account is not None:
            self.control.sleep(self.settings.nice * outcome.account.seconds)
        return done

    def _stoppable(self, work: Work) -> Work:
        """*work*, whose statements are cancelled when somebody is in a hurry: no timeout then, and no retry."""

        def stoppable(batch: Batch, lease: uuid.UUID) -> Account:
            try:
                return work(batch, lease)
            except (DBAPIError, psycopg2.Error):
                if self.control.stopping:
                    raise Stop(self.control.reason) from None
                raise

        return stoppable

    def _resolve(self, phase: str) -> int:
        """Resolve what the map lacks; returns the texts entered."""
        self._enter(phase)
        for job in self.jobs:
            self._planned(phase, job)

        with Progress(phase, self._rows_left(phase), quiet=self.quiet) as progress:
            while self._is_open(phase):
                moved = False
                for ready in resolve.ahead(self._picks(phase), self._prepare):
                    progress.advance(self._do(ready.batch, self._entering(ready)))
                    moved = True
                if not moved:  # held by somebody who is gone: until the lease runs out
                    self.control.sleep(0.5)
        return self._written(phase)

    def _picks(self, phase: str) -> Iterator[Batch]:
        """One batch after the other, the next one before the last is done."""
        last: frozenset[int] = frozenset()
        while True:
            self.control.checkpoint(self.run)
            batch = self._pick(phase, last)
            if batch is None or batch.id in last:
                return
            last = frozenset({batch.id})
            yield batch

    def _prepare(self, batch: Batch, in_flight: Set[str]) -> resolve.Ready:
        job = self.plan.job(batch.table_name)
        counting = batch.phase == RESOLVE  # before anything is linked: what the closing count starts from
        return resolve.prepare(
            self.engine, self.schema, job, self.resolver, batch, in_flight, self.limits, counting=counting
        )

    def _entering(self, ready: resolve.Ready) -> Work:
        def work(_batch: Batch, lease: uuid.UUID) -> Account:
            return resolve.process(
                self.engine, self.schema, self.plan.addresses, self.resolver, ready, lease, self.limits
            )

        return work

    def _rows_left(self, phase: str) -> int:
        with self.engine.begin() as connection:
            found = batches.phase(connection, self.run.id, phase)
        return sum(self._rows(Batch.of(row)) for row in found if row.finished is None)

    def _link(self, phase: str, passes: int) -> int:
        """Link through the workers; returns the rows written."""
        self._enter(phase)
        while True:
            for job in self.jobs:
                self._planned(phase, job, passes)
            self.control.checkpoint(self.run)
            if not self._is_open(phase):
                return self._written(phase)
            try:
                self._link_once(phase)
            except PoolBroken as broken:
                self.tell(f"A worker was lost ({broken}); its batch goes back to its checkpoint.")
                self._restarted("workers keep dying")
                with self.engine.begin() as connection:
                    batches.reclaim(connection, self.run.id, failed=False)
                    runs.count_retry(connection, self.run.id, "worker-lost")
            except _Rewritten as moved:
                self._restarted(f"{moved} keeps being rewritten")
                self._plan_rewritten(phase)

    def _plan_rewritten(self, phase: str) -> None:
        """Plan the blocks of every table anew that has another file: a VACUUM FULL rarely comes alone."""
        for job in self.jobs:
            with self.engine.begin() as connection:
                heap = heap_of(connection, job)
                if heap.filenode == self._tables[job.name].filenode:
                    continue
                batches.forget(connection, self.run.id, phase=phase, table_name=job.name)
                runs.plan_table(connection, self.run.id, job.name, heap)
                self._tables = runs.planned(connection, self.run.id)
            self.tell(
                f"{job.name} was rewritten meanwhile (VACUUM FULL, CLUSTER): planning its blocks again."
            )

    def _link_once(self, phase: str) -> None:
        """Until the phase is done, or somebody stops it; the caller asks which."""
        taken: dict[int, Batch] = {}

        def following(in_flight: frozenset[int]) -> Ticket | None:
            if self.control.waits(self.run):
                return None
            batch = self._pick(phase, in_flight)
            if batch is None:
                return None
            if batch.id in in_flight:  # hung, or cut off: whoever has it may write no more
                raise PoolBroken("its lease ran out")
            taken[batch.id] = batch
            return Ticket(batch.id, batch.table_name, self._tables[batch.table_name].filenode)

        def stopping() -> bool:
            paused = self.control.paused(self.run)
            if paused and self.control.stopping:
                self._tell_workers_to_stop()
            return paused or not self._is_open(phase)

        setup = Setup(
            self.engine.url.render_as_string(hide_password=False),
            self.schema,
            self.plan,
            Terms(self.limits, self.settings.patience, self.settings.nice),
        )
        with (
            Progress(phase, self._rows_left(phase), quiet=self.quiet) as progress,
            self._pooled(setup) as pool,
        ):
            for outcome in outcomes(pool, following, stopping):
                batch = taken.pop(outcome.batch_id)
                if outcome.rewritten:
                    raise _Rewritten(batch.table_name)
                if outcome.map_incomplete:
                    raise _MapEmptied
                progress.advance(self._take_in(outcome, batch))
                if outcome.account is not None:
                    self._vacuumer.written(self.plan.job(batch.table_name), outcome.account.written)

    @contextmanager
    def _pooled(self, setup: Setup) -> Iterator[Pool]:
        with self.pool(setup, self.settings.workers, self.control.sleep) as self._pool_now:
            try:
                yield self._pool_now
            finally:
                self._pool_now = None

    def _tell_workers_to_stop(self) -> None:
        """Through the ledger: each asks it between two transactions."""
        with (
            contextlib.suppress(DBAPIError, psycopg2.Error, TransitionRefused),
            self.engine.begin() as connection,
        ):
            if runs.get(connection, self.run.id).status is RunStatus.RUNNING:
                runs.move(connection, self.run.id, RunStatus.PAUSING)

    def _fill(self) -> None:
        self._enter(FILL)
        self._planned(FILL, self.plan.addresses)

        def work(batch: Batch, lease: uuid.UUID) -> Account:
            return fill.process(
                self.engine, self.schema, self.plan.addresses, self.resolver, batch, lease, self.limits
            )

        while self._is_open(FILL):
            self.control.checkpoint(self.run)
            batch = self._pick(FILL)
            if batch is None:
                self.control.sleep(0.5)
            else:
                self._do(batch, work)
        self.control.checkpoint(self.run)
        with self.engine.begin() as connection:
            fill.settle_odd_rows(connection, self.schema, self.plan.addresses, self.resolver, self.run.id)

    def _sweep(self) -> None:
        """Rows that moved or came while we were at work, up to each sweep's own start."""
        for number in range(1, SWEEPS + 1):
            entered = self._resolve(f"{SWEEP}-{number}-{RESOLVE}")
            linked = self._link(f"{SWEEP}-{number}-{LINK}", 1)
            if entered == linked == 0:
                return

    def _close(self) -> list[TableCount]:
        self._enter(CLOSE)
        counts = []
        for job in self.jobs:
            self.control.checkpoint(self.run)
            with self.engine.begin() as connection:
                quarantine.release_mended(connection, self.schema, job, key_type(connection, job))
                already = batches.already_linked(connection, self.run.id, RESOLVE, job.name)
            count = closing.count_rows(self.engine, self.schema, job, already)
            with self.engine.begin() as connection:
                runs.close_table(connection, self.run.id, count)
            counts.append(count)
        with self.engine.begin() as connection:
            given_up = batches.failures(connection, self.run.id)
            if not given_up:
                runs.move(connection, self.run.id, RunStatus.SUCCEEDED, held=None, held_since=None)
                address_map.drop(connection, self.schema)
        if given_up:
            first = given_up[0]
            raise _Failed(
                f"{len(given_up)} batches could not be done; the first, {first.table} blocks "
                f"{first.range.first} to {first.range.last}: {first.error}"
            )
        self.control.ending = True
        self.observe("finished", run=self.run.id)
        return counts

    def _rows(self, batch: Batch) -> int:
        """The rows of a batch as the planner estimates them, for the bar; blocks added since hold moved rows."""
        noted = self._tables[batch.table_name]
        first, last = (min(block, noted.blocks) for block in (batch.range.first, batch.range.last))
        return int(noted.rows * (last - first) / max(noted.blocks, 1))


def _shown(batch: Batch) -> str:
    return f"{batch.table_name}, blocks {batch.range.first} to {batch.range.last},"


class _Failed(Exception):
    """Cannot come to its end in this attempt."""


class _MapEmptied(Exception):
    """The server crashed, and the unlogged map with it."""


class _Rewritten(Exception):
    """That table's blocks lie elsewhere now."""
