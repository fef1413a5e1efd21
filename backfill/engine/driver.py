"""The driver: takes a run through its phases, each from its checkpoints.

1. Take the run's lock; find the run to resume, or begin one.
2. Resolve every distinct text into the map (in this process: the salt stays here).
3. Do what the run's strategy does with it: ``in_place``, or ``shadow``'s copies.
4. Count, and end the run.

Whatever passes (a server that restarts, a fail-over, a locked table) leads back to the first phase
that is not done: a phase that is costs a look. Which blocks come next is ``scheduler``, what passes and
how often ``recovery``, who works ``client_phases`` and ``worker_phases``.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.connection import execute, problem_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.session import CONNECT_SECONDS, LEAST_CONNECT_SECONDS, connecting_within
from backfill.database.transient import TableLocked, TransientError, transient_error_of
from backfill.engine.client_phases import ClientPhases
from backfill.engine.control import Cancel, Control, Deadline, LockLost
from backfill.engine.in_place import InPlace
from backfill.engine.interrupts import interruptible
from backfill.engine.phase_hooks import NO_HOOKS, PhaseHooks
from backfill.engine.pool import local, warm_up
from backfill.engine.progress import percent
from backfill.engine.recovery import RESTARTS, Recovery
from backfill.engine.run_context import Failed, NoServer, RunContext
from backfill.engine.run_phases import RunPhases
from backfill.engine.scheduler import BatchScheduler
from backfill.engine.strategy import Strategy
from backfill.engine.throttle import sensors
from backfill.engine.throttle.monitor import SensorMonitor
from backfill.engine.vacuum import Vacuumer
from backfill.engine.worker_phases import MakePool, WorkerPhases
from backfill.errors import (
    DueRefused,
    ExecutorUnusable,
    RunCancelled,
    RunFailed,
    RunPaused,
    TransitionRefused,
)
from backfill.escaping import counted
from backfill.job_id import JobId
from backfill.jobs.resolver import Resolver
from backfill.jobs.values import ValueResolver
from backfill.ledger import address_map, batches, claims, consents, quarantine, runs
from backfill.ledger.address_map import MapIncomplete
from backfill.ledger.claims import Stopped
from backfill.ledger.phases import RESOLVE
from backfill.ledger.run_lock import RunLock, run_lock
from backfill.ledger.run_state import RunState
from backfill.ledger.runs import Identity, Run, TableCount
from backfill.plan import Job, Plan
from backfill.settings import Settings

LET_GO_MS = 400  # a signal is to end it all within two seconds

__all__ = ["Driver", "run_lock"]


@dataclass
class Driver:
    """Drives one run; used once. ``drive`` is the whole of it."""

    engine: Engine
    settings: Settings
    plan: Plan
    jobs: tuple[Job, ...]
    resolver: Resolver | ValueResolver
    mismatches: int = 0
    explained: int = 0  # stored hashes that agree with salt and scheme
    quiet: bool = False
    tell: Callable[[str], None] = print
    deadline: Deadline = field(default_factory=Deadline)
    observe: Callable[..., None] = lambda event, **fields: (
        None
    )  # started, phase, paused, throttled, failed, …
    pool: MakePool = local
    see: Callable[[], Mapping[JobId, str]] = (
        dict  # preflight: the tables' definitions, where nothing is in the way
    )
    strategy: Strategy = field(default_factory=InPlace)
    hooks: PhaseHooks = NO_HOOKS
    run: Run = field(init=False)
    control: Control = field(init=False)
    _phases: RunPhases = field(init=False)
    _lock: RunLock = field(init=False)
    _monitor: SensorMonitor = field(init=False)
    _vacuumer: Vacuumer = field(init=False)
    _end_workers: Callable[[], None] = field(default=lambda: None, init=False)

    @property
    def schema(self) -> str:
        """The ledger's schema."""
        return self.settings.ledger_schema

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
                self.engine, self.control, lambda: self._drive(key_id), self.tell, lambda: self._end_workers()
            )

    def _drive(self, key_id: str) -> list[TableCount]:
        self._begin(key_id)
        self._put_together()
        if self.pool is local:
            warm_up(self.settings.workers)
        try:
            return self._until_done()
        except Stopped as stop:
            self._end(RunState.PAUSED, reason=str(stop))
            raise RunPaused(run=self.run.id, place=self._place(), reason=str(stop)) from None
        except Cancel:
            self._end(RunState.CANCELLED, reason="cancelled by the operator")
            raise RunCancelled(run=self.run.id) from None
        except DueRefused as refused:
            self._end(RunState.CANCELLED, error=str(refused))
            raise
        except ExecutorUnusable as unusable:
            self._end(RunState.FAILED, error=str(unusable))
            raise
        except Failed as failure:
            # A server that did not come back is not waited for once more, only to be told so.
            with connecting_within(
                LEAST_CONNECT_SECONDS if isinstance(failure, NoServer) else CONNECT_SECONDS
            ):
                self._end(RunState.FAILED, error=str(failure))
            raise RunFailed(run=self.run.id, problem=str(failure).rstrip(".")) from None
        finally:
            self._vacuumer.stop()
            self._monitor.stop()

    def _place(self) -> str:
        """Where the run stands, in words; nothing where the server cannot be asked."""
        with contextlib.suppress(*DRIVER_ERRORS):
            with self.engine.begin() as connection:
                phase = runs.get(connection, self.run.id).phase
            total, done = self._phases.scheduler.rows(phase)
            share = percent(done, total, finished=not self._phases.scheduler.is_open(phase))
            return f" of phase {phase}" + ("" if share is None else f", at {share} %")
        return ""

    def _begin(self, key_id: str) -> None:
        geo = self.resolver.geo.provenance if self.resolver.geo is not None else None
        identity = Identity(
            jobs=tuple(job.identity for job in self.jobs),
            plan_name=self.plan.name,
            plan_fingerprint=self.plan.fingerprint(key_id),
            scheme=self.plan.hash.scheme,
            key_id=key_id,
            geo_type=None if geo is None else geo.database_type,
            geo_build=None if geo is None else geo.build,
            strategy=self.strategy.name,
        )
        definitions = self.see()
        with self.engine.begin() as connection:
            earlier = runs.unfinished(connection, identity)
            if earlier is None:
                self.run = runs.create(
                    connection, identity, mismatches=self.mismatches, phase=RESOLVE, explained=self.explained
                )
                self._new_map(connection)
            else:
                self.run = runs.resume(connection, earlier)
                claims.reclaim(connection, self.run.id, failed=True)
                self.tell(f"Resuming run {self.run.id}, phase {self.run.phase}, attempt {self.run.attempts}.")
            runs.set_definitions(connection, self.run.id, definitions)
            consents.enter(connection, self.schema, self.run.id, self.plan, self.jobs, key_id)
            for job in self.jobs:
                quarantine.forget_other_keys(connection, job)
        # Resumed or not, and for all workers: how old a row is, is asked at the moment when the run was begun.
        self.plan = self.plan.at(self.run.created)
        self.jobs = tuple(self.plan.job(job.identity) for job in self.jobs)
        self.observe("started", run=self.run.id, attempt=self.run.attempts)

    def _put_together(self) -> None:
        """Give the run its parts."""
        context = RunContext(
            self.engine,
            self.settings,
            self.plan,
            self.jobs,
            self.run,
            self.control,
            self.tell,
            self.observe,
            self.quiet,
            self.see,
            self.hooks,
        )
        self._monitor = SensorMonitor(
            self.engine,
            self.schema,
            sensors.sensors(self.settings),
            sensors.snapshot(self.settings),
            self._held_or_released,
        )
        self._vacuumer = Vacuumer(self.engine, self.schema, self.settings.vacuum, self.tell)
        scheduler = BatchScheduler(context, lambda: self._monitor.pinned is not None)
        recovery = Recovery(context, self._lock, scheduler)
        workers = WorkerPhases(context, scheduler, recovery, self._vacuumer, self.pool)
        client = ClientPhases(context, scheduler, self.resolver)
        self._phases = RunPhases(context, scheduler, recovery, client, workers)
        self._end_workers = workers.kill

    def _held_or_released(self, event: str, reason: str) -> None:
        self.observe(event, run=self.run.id, reason=reason)
        self.tell(f"Waiting: {reason}." if reason else "Going on.")

    def _end(self, status: RunState, **values: str) -> None:
        """Write down how it ended, and clear up where it is for good."""
        self.control.ending = True
        self._record_end(status, **values)
        if status is RunState.CANCELLED:
            self.strategy.clear_up(self._phases)

    def _record_end(self, status: RunState, **values: str) -> None:
        for _ in range(RESTARTS):
            try:
                with self.engine.begin() as connection:
                    now = runs.get(connection, self.run.id)
                    if now.status is not status:
                        runs.move(
                            connection, self.run.id, status, throttled=None, throttled_since=None, **values
                        )
                    else:
                        runs.note(connection, self.run.id, throttled=None, throttled_since=None, **values)
                    if status is RunState.CANCELLED:
                        address_map.drop(connection, self.schema)
                break
            except TransitionRefused:
                return  # somebody cancelled meanwhile: the next command clears up
            except DRIVER_ERRORS as error:
                if (
                    transient_error_of(error) is not TransientError.STATEMENT_TIMEOUT
                ):  # our own cancel, a moment late
                    self.tell(
                        f"That could not be recorded ({problem_of(error)}); `backfill run` goes on all the same."
                    )
                    return
        self._let_go()
        self.observe(status.value, run=self.run.id, **values)

    def _let_go(self) -> None:
        """Hand back what workers had in hand that were killed, so that no status names them any more.

        Where a server process of theirs is still at work, the next attempt does it.
        """
        with contextlib.suppress(*DRIVER_ERRORS), self.engine.begin() as connection:
            execute(connection, sql.SQL("set local lock_timeout = {}").format(sql.Literal(LET_GO_MS)))
            claims.reclaim(connection, self.run.id, failed=False)

    def _until_done(self) -> list[TableCount]:
        """All phases and the closing; back to the first that is not done, whenever something passes.

        Recovery may itself meet a transient error (the server goes again while we come back); that is retried likewise.
        """
        setback: tuple[TransientError | None, Exception | None] | None = None
        while True:
            try:
                if setback is not None:
                    self._phases.recovery.fix(*setback)
                setback = None
                self._monitor.start(self.run.id)
                self._lock.beat_for(self.run.id)
                self.control.checkpoint(self.run)
                self._work()
                return self._close()
            except (*DRIVER_ERRORS, TableLocked) as error:
                setback = transient_error_of(error), error
            except LockLost:
                setback = TransientError.CONNECTION_LOST, None
            except TransitionRefused:
                setback = None  # paused or cancelled at the last moment: the checkpoint sees to that

    def _work(self) -> None:
        """All phases; those that are done cost a look. Begins again when the map was emptied."""
        while True:
            try:
                self._check_map()
                self.strategy.begin(self._phases)
                self._phases.resolve(RESOLVE)
                with self.engine.begin() as connection:
                    # A run that was away may find rows of the address table deleted; sweeps resolve their texts.
                    for known in self.plan.address_tables:
                        address_map.forget_gone(connection, self.schema, known, self.run.id)
                    address_map.complete(connection, self.schema, self.run.id)
                    # The planner has to know the size of the map; its columns have statistics 0.
                    execute(connection, sql.SQL("analyze {}").format(address_map.name(self.schema)))
                self.strategy.work(self._phases)
            except MapIncomplete:
                self._phases.recovery.restarted(
                    "the server keeps losing the address map, or somebody keeps deleting rows of the address table"
                )
            else:
                return

    def _new_map(self, connection: Connection) -> None:
        address_map.create(connection, self.schema, self.plan.address_table)
        runs.set_map_rows(connection, self.run.id, 0)
        batches.restart(connection, self.run.id, phase=RESOLVE)

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

    def _close(self) -> list[TableCount]:
        counts = self.strategy.close(self._phases)
        with self.engine.begin() as connection:
            given_up = batches.failures(connection, self.run.id)
            if not given_up:
                runs.move(connection, self.run.id, RunState.SUCCEEDED, throttled=None, throttled_since=None)
                if not self.strategy.keeps_map:
                    address_map.drop(connection, self.schema)
        if given_up:
            first = given_up[0]
            raise Failed(
                f"{counted(len(given_up), 'batch', 'batches')} could not be done; the first, {self.plan.label(first.job)} blocks "
                f"{first.range.first} to {first.range.last}: {(first.error or '').rstrip('.')}."
                f"{self._phases.scheduler.in_the_way(first.job, first.error or '')}"
            )
        self.control.ending = True
        self.observe("finished", run=self.run.id)
        return counts
