"""The run: expand → calibrate → resolve → link → fill → sweep → close, each phase from its checkpoints.

1. Take the run's lock; find the run to resume, or begin one.
2. Resolve every distinct text into the map (in this process: the salt stays here).
3. Link block ranges (by workers).
4. Fill what the live application left empty in the address table; quarantine duplicates.
5. Count from the data. Where rows moved or arrived meanwhile, sweep and count again, three times at most.
6. Close.

Whatever passes (a server that restarts, a fail-over, a locked table) leads back to the first phase
that is not done: a phase that is costs a look. Which blocks come next is ``scheduler``, what passes and
how often ``recovery``, who works ``client_phases`` and ``worker_phases``.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.columns import column_type
from backfill.database.connection import execute, problem_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.session import CONNECT_SECONDS, LEAST_CONNECT_SECONDS, connecting_within
from backfill.database.timeouts import Timeouts
from backfill.database.transient import TableLocked, TransientError, transient_error_of
from backfill.engine.client_phases import ClientPhases
from backfill.engine.control import Cancel, Control, Deadline, LockLost
from backfill.engine.interrupts import interruptible
from backfill.engine.pool import local, warm_up
from backfill.engine.recovery import RESTARTS, Recovery
from backfill.engine.run_context import Failed, NoServer, RunContext
from backfill.engine.scheduler import BatchScheduler
from backfill.engine.throttle import sensors
from backfill.engine.throttle.monitor import SensorMonitor
from backfill.engine.vacuum import Vacuumer
from backfill.engine.worker_phases import MakePool, WorkerPhases
from backfill.errors import ExecutorUnusable, RunCancelled, RunFailed, RunPaused, TransitionRefused
from backfill.job_id import JobId
from backfill.jobs import closing_count, kept_rows
from backfill.jobs.closing_count import Counted
from backfill.jobs.kinds import writer_of
from backfill.jobs.resolve import Resolver
from backfill.ledger import address_map, batches, claims, quarantine, runs
from backfill.ledger.address_map import MapIncomplete
from backfill.ledger.claims import Stopped
from backfill.ledger.phases import CLOSE, FILL, LINK, RESOLVE, Phase, Work
from backfill.ledger.run_lock import RunLock, run_lock
from backfill.ledger.run_state import RunState
from backfill.ledger.runs import Identity, Run, TableCount
from backfill.plan import Job, Plan
from backfill.settings import Settings

LET_GO_MS = 400  # a signal is to end it all within two seconds
SWEEPS = 3  # under constant inserts there is always one row more

__all__ = ["Driver", "run_lock"]


@dataclass
class Driver:
    """Drives one run; used once. ``drive`` is the whole of it."""

    engine: Engine
    settings: Settings
    plan: Plan
    jobs: tuple[Job, ...]
    resolver: Resolver
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
    strategy: str = "in-place"
    run: Run = field(init=False)
    control: Control = field(init=False)
    scheduler: BatchScheduler = field(init=False)
    recovery: Recovery = field(init=False)
    _lock: RunLock = field(init=False)
    _monitor: SensorMonitor = field(init=False)
    _vacuumer: Vacuumer = field(init=False)
    client_phases: ClientPhases = field(init=False)
    _worker_phases: WorkerPhases = field(init=False)
    _found: dict[JobId, Counted] = field(init=False)  # the rows as they are when all phases are done
    _end_workers: Callable[[], None] = field(default=lambda: None, init=False)

    @property
    def schema(self) -> str:
        """The ledger's schema."""
        return self.settings.ledger_schema

    @property
    def timeouts(self) -> Timeouts:
        """Of each transaction of a batch."""
        return Timeouts(statement=self.settings.timeout_seconds)

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
            raise RunPaused(run=self.run.id, reason=str(stop)) from None
        except Cancel:
            self._end(RunState.CANCELLED, reason="cancelled by the operator")
            raise RunCancelled(run=self.run.id) from None
        except ExecutorUnusable as unusable:
            self._end(RunState.FAILED, error=str(unusable))
            raise
        except Failed as failure:
            # A server that did not come back is not waited for once more, only to be told so.
            with connecting_within(
                LEAST_CONNECT_SECONDS if isinstance(failure, NoServer) else CONNECT_SECONDS
            ):
                self._end(RunState.FAILED, error=str(failure))
            raise RunFailed(run=self.run.id, problem=str(failure)) from None
        finally:
            self._vacuumer.stop()
            self._monitor.stop()

    def _begin(self, key_id: str) -> None:
        identity = Identity(
            jobs=tuple(job.identity for job in self.jobs),
            plan_name=self.plan.name,
            plan_fingerprint=self.plan.fingerprint(key_id),
            scheme=self.plan.hash.scheme,
            key_id=key_id,
            geo_type=self.resolver.geo.provenance.database_type,
            geo_build=self.resolver.geo.provenance.build,
            strategy=self.strategy,
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
        )
        self._monitor = SensorMonitor(
            self.engine,
            self.schema,
            sensors.sensors(self.settings),
            sensors.snapshot(self.settings),
            self._held_or_released,
        )
        self._vacuumer = Vacuumer(self.engine, self.schema, self.settings.vacuum, self.tell)
        self.scheduler = BatchScheduler(context, lambda: self._monitor.pinned is not None)
        self.recovery = Recovery(context, self._lock, self.scheduler)
        self.client_phases = ClientPhases(context, self.scheduler, self.resolver)
        self._worker_phases = WorkerPhases(context, self.scheduler, self.recovery, self._vacuumer, self.pool)
        self._end_workers = self._worker_phases.kill

    def _held_or_released(self, event: str, reason: str) -> None:
        self.observe(event, run=self.run.id, reason=reason)
        self.tell(f"Waiting: {reason}." if reason else "Going on.")

    def _end(self, status: RunState, **values: str) -> None:
        """Write down how it ended, and clear up where it is for good."""
        self.control.ending = True
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
                    self.recovery.fix(*setback)
                setback = None
                self._monitor.start(self.run.id)
                self._lock.beat_for(self.run.id)
                self.control.checkpoint(self.run)
                self._phases()
                return self._close()
            except (*DRIVER_ERRORS, TableLocked) as error:
                setback = transient_error_of(error), error
            except LockLost:
                setback = TransientError.CONNECTION_LOST, None
            except TransitionRefused:
                setback = None  # paused or cancelled at the last moment: the checkpoint sees to that

    def _phases(self) -> None:
        """All phases; those that are done cost a look. Begins again when the map was emptied."""
        while True:
            try:
                self._check_map()
                self._resolve(RESOLVE)
                with self.engine.begin() as connection:
                    # A run that was away may find rows of the address table deleted; sweeps resolve their texts.
                    address_map.forget_gone(connection, self.schema, self.plan.addresses, self.run.id)
                    address_map.complete(connection, self.schema, self.run.id)
                    # The planner has to know the size of the map; its columns have statistics 0.
                    execute(connection, sql.SQL("analyze {}").format(address_map.name(self.schema)))
                self._work()
            except MapIncomplete:
                self.recovery.restarted(
                    "the server keeps losing the address map, or somebody keeps deleting rows of the address table"
                )
            else:
                return

    def _work(self) -> None:
        """What comes after the map; a run that copies does something else here."""
        self._link(LINK, self.settings.passes)
        self._fill()
        self._found = self._counted()

    def _new_map(self, connection: Connection) -> None:
        address_map.create(connection, self.schema, self.plan.addresses)
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

    def _enter(self, phase: Phase) -> None:
        self.control.checkpoint(self.run)
        with self.engine.begin() as connection:
            runs.enter(connection, self.run.id, phase)
        self.observe("phase", run=self.run.id, phase=phase.name)

    def _resolve(self, phase: Phase) -> int:
        self._enter(phase)
        return self.client_phases.resolve(phase)

    def _link(self, phase: Phase, passes: int) -> int:
        self._enter(phase)
        return self._worker_phases.link(phase, passes)

    def _fill(self) -> None:
        self._enter(FILL)
        self.client_phases.fill()

    def _sweep(self, number: int) -> int:
        """Rows that moved or came while we were at work, where the count has seen them; returns what it did."""
        entered = self._resolve(Phase(Work.RESOLVE, number))
        return entered + self._link(Phase(Work.LINK, number), 1)

    def _counted(self) -> dict[JobId, Counted]:
        """The rows of all tables as they are, once nothing is left that a sweep could do."""
        for number in range(1, SWEEPS + 2):
            self._enter(CLOSE)
            found = closing_count.count_rows(
                self.engine,
                self.schema,
                self.plan,
                self.jobs,
                self.settings.workers,
                lambda: self.control.checkpoint(self.run),
            )
            if number > SWEEPS or not any(counted.left for counted in found.values()):
                break
            self.scheduler.left = {name: counted.where_left() for name, counted in found.items()}
            # One that a driver before us has begun went where that one had found something.
            begun = self.scheduler.is_planned(Phase(Work.RESOLVE, number))
            if self._sweep(number) == 0 and not begun:
                break
        return found

    def _kept(self, job: Job) -> int:
        """Rows that were left because a trigger keeps them as they are."""
        found = self._found[job.identity]
        if not found.left:
            return 0
        kept = kept_rows.count(self.engine, self.schema, job, found.where_left(), self.timeouts)
        if kept:
            self.tell(
                f"{job.label}: {kept:,} rows stay without a link although they were updated (of at most {kept_rows.MOST:,} "
                "that were tried once more): a trigger of the application keeps them as they are. `backfill plan` names "
                "the triggers; disable the one that does it, and run again."
            )
        return kept

    def _close(self) -> list[TableCount]:
        with self.engine.begin() as connection:
            refused = {batch.job for batch in batches.failures(connection, self.run.id)}
        counts = []
        for job in self.jobs:
            # Where batches were refused, it is known why rows are left: a trigger that raises would raise again.
            kept = 0 if job.identity in refused else self._kept(job)
            with self.engine.begin() as connection:
                key, unfinished = column_type(connection, job, job.key), writer_of(job).unfinished
                quarantine.release_fixed(connection, self.schema, job, key, unfinished)
                already = batches.already_linked(connection, self.run.id, RESOLVE, job.identity)
                count = self._found[job.identity].closing(job, already, kept)
                runs.close_table(connection, self.run.id, count)
            counts.append(count)
        with self.engine.begin() as connection:
            given_up = batches.failures(connection, self.run.id)
            if not given_up:
                runs.move(connection, self.run.id, RunState.SUCCEEDED, throttled=None, throttled_since=None)
                address_map.drop(connection, self.schema)
        if given_up:
            first = given_up[0]
            raise Failed(
                f"{len(given_up)} batches could not be done; the first, {self.plan.label(first.job)} blocks "
                f"{first.range.first} to {first.range.last}: {first.error}"
            )
        self.control.ending = True
        self.observe("finished", run=self.run.id)
        return counts
