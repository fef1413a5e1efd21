"""The run: expand → calibrate → resolve → link → fill → sweep → close, each phase from its checkpoints.

1. Take the run's lock; find the run to resume, or begin one.
2. Resolve every distinct text into the map (this process: the salt stays here).
3. Link block ranges (workers).
4. Fill what the live application left empty in the address table; quarantine duplicates.
5. Sweep: rows that moved or arrived meanwhile, three times at most.
6. Count from the data, and close.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, Engine, Row

from backfill.database.engine import execute, value
from backfill.database.heap import Range, heap_of, ranges
from backfill.database.inspection import key_type
from backfill.errors import NoRun, RunFailed, RunInProgress, RunPaused
from backfill.jobs import closing, fill, resolve
from backfill.jobs.resolve import Resolver
from backfill.ledger import address_map, batches, quarantine, runs
from backfill.ledger.batches import Batch
from backfill.ledger.runs import Identity, Run, TableCount
from backfill.ledger.status import BatchStatus, RunStatus
from backfill.plan import Job, Plan, Table
from backfill.pool import BrokenProcessPool, Task, local, outcomes, warm_up
from backfill.progress import Progress
from backfill.settings import Settings
from backfill.worker import Setup

RESOLVE, LINK, FILL, SWEEP, CLOSE = "resolve", "link", "fill", "sweep", "close"
SWEEPS = 3  # under constant inserts there is always one row more
SWEEP_FACTOR = 4  # a sweep reads much and writes little: larger ranges
RESTARTS = 3  # of a phase whose ground moved: the map was emptied, a table rewritten, a worker killed
LOCK_CLASS = 0x6261636B  # "back": our advisory locks


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
    strategy: str = "in-place"
    stop: threading.Event = field(default_factory=threading.Event)
    run: Run = field(init=False)
    _tables: dict[str, Row[Any]] = field(default_factory=dict, init=False)  # the run's tables as noted

    @property
    def schema(self) -> str:
        """The ledger's schema."""
        return self.settings.ledger_schema

    def drive(self, key_id: str) -> list[TableCount]:
        """Bring the run to its end and return its closing counts.

        Raises ``RunInProgress``, ``RunPaused`` (stopped by a signal, or from another shell) and
        ``RunFailed`` (a batch failed for good).
        """
        with run_lock(self.engine, self.schema), _signals(self.stop, self.tell):
            self._begin(key_id)
            try:
                self._phases()
            except _Paused:
                with self.engine.begin() as connection:
                    runs.move(connection, self.run.id, RunStatus.PAUSED)
                raise RunPaused(run=self.run.id) from None
            except _Failed as failure:
                self._fail(str(failure))
                raise RunFailed(run=self.run.id, problem=str(failure)) from None
            return self._close()

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
                batches.reclaim(connection, self.run.id)
                self._tables = runs.planned(connection, self.run.id)
                self.tell(f"Resuming run {self.run.id}, phase {self.run.phase}, attempt {self.run.attempts}.")

    def _new_map(self, connection: Connection) -> None:
        address_map.create(connection, self.schema, self.plan.addresses)
        runs.set_map_rows(connection, self.run.id, 0)
        batches.restart(connection, self.run.id, phase=RESOLVE)

    def _phases(self) -> None:
        """All phases; those that are done cost a look. Begins again when the map was emptied."""
        warm_up(self.settings.workers)
        for _ in range(RESTARTS):
            try:
                self._check_map()
                self._resolve(RESOLVE, self.settings.batch_blocks)
                with self.engine.begin() as connection:
                    address_map.complete(connection, self.schema, self.run.id)
                    # The planner has to know the size of the map; its columns have statistics 0.
                    execute(connection, sql.SQL("analyze {}").format(address_map.name(self.schema)))
                self._work()
            except _MapEmptied:
                self.tell("The address map was emptied by a crash of the server: resolving again.")
            else:
                return
        raise _Failed("the server keeps losing the address map")

    def _work(self) -> None:
        """What comes after the map; a run that copies does something else here."""
        self._link(LINK, self.settings.passes, self.settings.batch_blocks)
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
                self._new_map(connection)

    def _planned(self, phase: str, part: Table, size: int, passes: int = 1) -> None:
        """Enter the phase's batches for that table, unless they are there."""
        with self.engine.begin() as connection:
            known = {row.table_name for row in batches.phase(connection, self.run.id, phase)}
            if part.name in known:
                return
            heap = heap_of(connection, part)
            if phase == LINK or part.name not in self._tables:
                runs.plan_table(connection, self.run.id, part.name, heap)
                self._tables = runs.planned(connection, self.run.id)
            # An empty table has one empty batch, so that it counts as planned.
            spans = list(ranges(heap.blocks, size)) or [Range(0, 0)]
            batches.plan(connection, self.run.id, phase, part.name, spans, passes)

    def _enter(self, phase: str) -> None:
        with self.engine.begin() as connection:
            runs.enter(connection, self.run.id, phase)

    def _open(self, phase: str) -> Iterator[Batch]:
        """Batches of the phase that are not done, as they lie; stops between two when told to."""
        with self.engine.begin() as connection:
            waiting = [
                Batch.of(row)
                for row in batches.phase(connection, self.run.id, phase)
                if row.status != BatchStatus.SUCCEEDED
            ]
        for batch in waiting:
            self._halt_if_told()
            yield batch

    def _halt_if_told(self) -> None:
        if self.stop.is_set():
            raise _Paused
        with self.engine.begin() as connection:
            if runs.get(connection, self.run.id).status is not RunStatus.RUNNING:
                raise _Paused

    def _resolve(self, phase: str, size: int) -> int:
        """Resolve what the map lacks; returns the texts entered."""
        self._enter(phase)
        for job in self.jobs:
            self._planned(phase, job, size)
        entered = 0
        with Progress(phase, self._estimate(), quiet=self.quiet) as progress:
            for ready in resolve.ahead(self._open(phase), self._prepare):
                with self.engine.begin() as connection:
                    claimed = batches.claim(connection, ready.batch.id)
                if claimed is None:
                    raise _Failed(f"another process holds batch {ready.batch.id} of {ready.batch.table_name}")
                account = resolve.finish(
                    self.engine, self.schema, self.plan.addresses, self.resolver, ready, claimed[1]
                )
                entered += account.written
                progress.advance(self._rows(ready.batch))
        return entered

    def _prepare(self, batch: Batch, in_flight: Set[str]) -> resolve.Ready:
        job = self.plan.job(batch.table_name)
        counting = batch.phase == RESOLVE  # before anything is linked: what the closing count starts from
        return resolve.prepare(
            self.engine, self.schema, job, self.resolver, batch, in_flight, counting=counting
        )

    def _link(self, phase: str, passes: int, size: int) -> int:
        """Link through the workers; returns the rows written."""
        self._enter(phase)
        for _ in range(RESTARTS):
            for job in self.jobs:
                self._planned(phase, job, size, passes)
            try:
                return self._link_once(phase)
            except BrokenProcessPool:
                self.tell("A worker process was killed; its batch goes back to its checkpoint.")
                with self.engine.begin() as connection:
                    batches.reclaim(connection, self.run.id)
            except _Rewritten:
                self._plan_rewritten(phase)
        raise _Failed("workers kept dying, or a table kept being rewritten")

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

    def _link_once(self, phase: str) -> int:
        waiting = {batch.id: batch for batch in self._open(phase)}
        tasks = [Task(b.id, b.table_name, self._tables[b.table_name].filenode) for b in waiting.values()]
        setup = Setup(self.engine.url.render_as_string(hide_password=False), self.schema, self.plan)
        written, failed = 0, {}
        if not tasks:
            return 0
        with (
            Progress(phase, sum(map(self._rows, waiting.values())), quiet=self.quiet) as progress,
            local(setup, self.settings.workers) as executor,
        ):
            for outcome in outcomes(executor, tasks, self.settings.workers, self._pausing):
                batch = waiting[outcome.batch_id]
                if outcome.account is not None:
                    written += outcome.account.written
                    progress.advance(self._rows(batch))
                elif outcome.error is not None:
                    failed[batch.table_name] = outcome.error
                elif outcome.rewritten:
                    raise _Rewritten(batch.table_name)
                elif outcome.map_incomplete:
                    raise _MapEmptied
        self._halt_if_told()
        if failed:
            name, error = next(iter(failed.items()))
            raise _Failed(f"batches of {', '.join(failed)} failed; {name}: {error}")
        return written

    def _pausing(self) -> bool:
        """Whether to submit no more; tells the workers through the ledger, between two passes."""
        if self.stop.is_set():
            with self.engine.begin() as connection:
                if runs.get(connection, self.run.id).status is RunStatus.RUNNING:
                    runs.move(connection, self.run.id, RunStatus.PAUSING)
        return self.stop.is_set()

    def _fill(self) -> None:
        self._enter(FILL)
        self._planned(FILL, self.plan.addresses, self.settings.batch_blocks)
        for batch in self._open(FILL):
            with self.engine.begin() as connection:
                claimed = batches.claim(connection, batch.id)
            if claimed is not None:
                fill.process(self.engine, self.schema, self.plan.addresses, self.resolver, *claimed)
        with self.engine.begin() as connection:
            fill.settle_odd_rows(connection, self.schema, self.plan.addresses, self.resolver, self.run.id)

    def _sweep(self) -> None:
        """Rows that moved or came while we were at work, up to each sweep's own start."""
        size = self.settings.batch_blocks * SWEEP_FACTOR
        for number in range(1, SWEEPS + 1):
            for kind in (RESOLVE, LINK):
                phase = f"{SWEEP}-{number}-{kind}"
                done = self._resolve(phase, size) if kind == RESOLVE else self._link(phase, 1, size)
            if done == 0:
                return

    def _close(self) -> list[TableCount]:
        self._enter(CLOSE)
        counts = []
        for job in self.jobs:
            with self.engine.begin() as connection:
                quarantine.release_mended(connection, self.schema, job, key_type(connection, job))
                already = batches.already_linked(connection, self.run.id, RESOLVE, job.name)
            count = closing.count_rows(self.engine, self.schema, job, already)
            with self.engine.begin() as connection:
                runs.close_table(connection, self.run.id, count)
            counts.append(count)
        with self.engine.begin() as connection:
            runs.move(connection, self.run.id, RunStatus.SUCCEEDED)
            address_map.drop(connection, self.schema)
        return counts

    def _fail(self, problem: str) -> None:
        with self.engine.begin() as connection:
            runs.move(connection, self.run.id, RunStatus.FAILED, error=problem)

    def _estimate(self) -> int:
        return sum(row.rows for name, row in self._tables.items() if name != self.plan.addresses.name)

    def _rows(self, batch: Batch) -> int:
        """The rows of a batch as the planner estimates them, for the bar; blocks added since hold moved rows."""
        noted = self._tables[batch.table_name]
        first, last = (min(block, noted.blocks) for block in (batch.range.first, batch.range.last))
        return int(noted.rows * (last - first) / max(noted.blocks, 1))


class _Paused(Exception):
    """Told to stop; the checkpoints stand."""


class _Failed(Exception):
    """Cannot come to its end in this attempt."""


class _MapEmptied(Exception):
    """The server crashed, and the unlogged map with it."""


class _Rewritten(Exception):
    """That table's blocks lie elsewhere now."""


@contextmanager
def run_lock(engine: Engine, schema: str) -> Iterator[None]:
    """Only one command drives runs or settles rows at a time. Raises ``RunInProgress``.

    A session lock on a connection of its own: the server frees it the moment that we are gone.
    """
    with engine.connect() as connection:
        lock = (LOCK_CLASS, schema)
        if not value(connection, sql.SQL("select pg_try_advisory_lock(%s, hashtext(%s))"), lock):
            connection.rollback()
            try:
                run = runs.latest(connection)
            except NoRun:  # the other one has not come to its first row yet
                raise RunInProgress(run="1", holder="just beginning") from None
            raise RunInProgress(run=run.id, holder=run.holder)
        connection.commit()
        try:
            yield
        finally:
            value(connection, sql.SQL("select pg_advisory_unlock(%s, hashtext(%s))"), lock)
            connection.commit()


@contextmanager
def _signals(stop: threading.Event, tell: Callable[[str], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the run at the next checkpoint; a second one ends at once."""

    def told(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        tell(f"{signal.Signals(number).name}: stopping at the next checkpoint; once more ends at once.")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
