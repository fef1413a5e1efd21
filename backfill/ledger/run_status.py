"""Run status: where a run is, as one object; read from the ledger alone, so any shell can ask.

The same object is the status on the terminal, its JSON, what hooks get and what metrics count.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows, value
from backfill.ledger import batches, claims, quarantine, runs
from backfill.ledger.phases import Work
from backfill.ledger.run_lock import is_driven
from backfill.ledger.run_state import BatchState, RunState
from backfill.ledger.runs import Run
from backfill.plan import Plan

SILENT_SECONDS = 15.0  # a driver beats once a second; an idle worker takes the next batch at once
RATE_SECONDS = 60.0  # the rate is that of the last minute

# A prepared transaction has no session.
BLOCKED = sql.SQL("""
    with waiter as (
        select pid from pg_stat_activity
         where application_name = 'backfill' and datname = current_database() and wait_event_type = 'Lock'
    )
    select format('session %s (%s, %s)', blocker.pid, coalesce(nullif(blocker.application_name, ''), 'unnamed'), blocker.state),
           extract(epoch from clock_timestamp() - blocker.xact_start)
      from waiter
      cross join lateral unnest(pg_blocking_pids(waiter.pid)) as blocking (pid)
      join pg_stat_activity as blocker on blocker.pid = blocking.pid
     where blocker.application_name <> 'backfill'
    union all
    select format('prepared transaction %L', prepared.gid), extract(epoch from clock_timestamp() - prepared.prepared)
      from waiter
      join pg_locks as wanted on wanted.pid = waiter.pid and not wanted.granted
      join pg_locks as held
        on held.pid is null and held.granted
       and (held.transactionid = wanted.transactionid or held.database = wanted.database and held.relation = wanted.relation)
      join pg_locks as own on own.pid is null and own.virtualtransaction = held.virtualtransaction
      join pg_prepared_xacts as prepared on prepared.transaction = own.transactionid
     order by 2 desc nulls last limit 1
""")

# Our commits, where the standby that they wait for is gone: they wait for ever, and no lock says so.
SYNCHRONOUS = sql.SQL("""
    select extract(epoch from max(clock_timestamp() - state_change)) from pg_stat_activity
     where application_name = 'backfill' and datname = current_database() and wait_event = 'SyncRep'
""")
SYNCHRONOUS_SECONDS = 2.0  # a standby across an ocean takes less


@dataclass(frozen=True)
class ClaimedBatch:
    """A batch in somebody's hands."""

    worker: str
    phase: str
    table: str
    first_block: int
    last_block: int
    passes: int
    passes_done: int
    since: datetime | None
    lease_until: datetime | None
    retries: int
    transient_error: str | None


@dataclass(frozen=True)
class Part:
    """One table in one phase."""

    phase: str
    table: str
    done: int
    batches: int
    written: int
    placed: int  # rows that got the place of their address beside their value
    longest_seconds: float
    rows: int  # the planner's estimate
    rows_done: int
    failed: int
    retries: int


@dataclass(frozen=True)
class RunStatus:
    """A run at one moment."""

    run: Run
    jobs: Sequence[str]  # what people call them
    now: datetime
    driven: bool
    heartbeat_age: float
    parts: Sequence[Part]
    claimed_batches: Sequence[ClaimedBatch]
    rate: float  # rows a second
    waiting: str | None  # why it is not moving; None: it moves, or it is over
    quarantine: Mapping[str, Mapping[str, int]]  # rows that wait for a decision
    kept_unreadable: Mapping[
        str, Mapping[str, int]
    ]  # rows that the plan keeps, with a text that is no address
    failures: Sequence[str]

    @property
    def current(self) -> list[Part]:
        """The parts of the phase that the run is in."""
        return [part for part in self.parts if part.phase == self.run.phase.name]

    @property
    def rows_done(self) -> int:
        """Rows gone over in this phase."""
        return sum(part.rows_done for part in self.current)

    @property
    def rows_left(self) -> int:
        """Rows to go over in this phase."""
        return max(0, sum(part.rows for part in self.current) - self.rows_done)

    @property
    def phase_done(self) -> bool:
        """Whether nothing of this phase is left."""
        return all(part.done == part.batches for part in self.current)

    @property
    def eta_seconds(self) -> float | None:
        """Until the phase ends, at the rate of the last minute."""
        return self.rows_left / self.rate if self.rate > 0 and self.waiting is None else None

    def as_dict(self) -> dict[str, Any]:
        """For machines; names are stable."""
        fields = asdict(self.run)
        del fields["identity"]
        return {
            **fields,
            "phase": self.run.phase.name,
            "jobs": list(self.jobs),
            "driven": self.driven,
            "heartbeat_age": round(self.heartbeat_age, 1),
            "waiting": self.waiting,
            "rows_done": self.rows_done,
            "rows_left": self.rows_left,
            "rate": round(self.rate, 1),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds, 1),
            "batches": [asdict(part) for part in self.parts],
            "workers": [asdict(claimed) for claimed in self.claimed_batches],
            "failed": list(self.failures),
            "quarantine": self.quarantine,
            "kept_unreadable": self.kept_unreadable,
        }


def run_status(connection: Connection, schema: str, plan: Plan, run_id: int | None = None) -> RunStatus:
    """Of that run; of the newest for None. *plan* has what people call a job. Raises ``NoRun``."""
    label = plan.label
    waiting, kept = quarantine.waiting_and_kept(connection, plan)
    run = runs.latest(connection) if run_id is None else runs.get(connection, run_id)
    now: datetime = value(connection, sql.SQL("select clock_timestamp()"))
    driven = is_driven(connection, schema)
    age = max(0.0, (now - run.heartbeat).total_seconds())
    parts, rate = _parts(connection, run, now, label)
    claimed_batches = [_claimed(row, label) for row in claims.claimed_batches(connection, run.id)]
    return RunStatus(
        run=run,
        jobs=[label(job) for job in run.identity.jobs],
        now=now,
        driven=driven,
        heartbeat_age=age,
        parts=parts,
        claimed_batches=claimed_batches,
        rate=rate,
        waiting=_waiting(connection, run, driven, age, claimed_batches)
        or _idle(connection, run, now, claimed_batches),
        quarantine={label(job): reasons for job, reasons in waiting.items()},
        kept_unreadable={label(job): reasons for job, reasons in kept.items()},
        failures=[
            f"{label(failure.job)} blocks {failure.range.first} to {failure.range.last} ({failure.phase}): {failure.error}"
            for failure in batches.failures(connection, run.id)
        ],
    )


def _parts(
    connection: Connection, run: Run, now: datetime, label: Callable[[str], str]
) -> tuple[list[Part], float]:
    """The parts, and the rate of the last minute in the current phase."""
    noted = runs.planned(connection, run.id)
    parts: dict[tuple[str, str], list[Any]] = {}
    recent, earliest = 0.0, now
    for row in batches.all_of(connection, run.id):
        table = noted.get(row.job)
        each = table.rows / max(table.blocks, 1) if table else 0.0
        last = min(row.last_block, table.blocks) if table else row.last_block
        estimate = max(0, last - min(row.first_block, last)) * each
        share = row.passes_done / row.passes
        sums = parts.setdefault((row.phase.name, row.job), [0, 0, 0, 0.0, 0.0, 0.0, 0, 0, 0])
        sums[0] += row.status == BatchState.SUCCEEDED
        sums[1] += 1
        sums[2] += row.written
        sums[3] = max(sums[3], row.longest)
        sums[4] += estimate
        sums[5] += estimate * share
        sums[6] += row.status == BatchState.FAILED
        sums[7] += row.retries
        sums[8] += row.placed
        if row.phase == run.phase and row.finished and (now - row.finished).total_seconds() < RATE_SECONDS:
            recent += estimate
            earliest = min(earliest, row.claimed or row.finished)
    seconds = (now - earliest).total_seconds()
    found = [
        Part(
            phase=phase,
            table=label(name),
            done=s[0],
            batches=s[1],
            written=s[2],
            placed=s[8],
            longest_seconds=round(float(s[3]), 3),
            rows=round(s[4]),
            rows_done=round(s[5]),
            failed=s[6],
            retries=s[7],
        )
        for (phase, name), s in parts.items()
    ]
    return found, recent / seconds if seconds > 0 else 0.0


def _claimed(row: Any, label: Callable[[str], str]) -> ClaimedBatch:
    return ClaimedBatch(
        worker=row.worker or "nobody",
        phase=row.phase.name,
        table=label(row.job),
        first_block=row.first_block,
        last_block=row.last_block,
        passes=row.passes,
        passes_done=row.passes_done,
        since=row.claimed,
        lease_until=row.lease_until,
        retries=row.retries,
        transient_error=row.error,
    )


def _waiting(
    connection: Connection, run: Run, driven: bool, age: float, claimed_batches: Sequence[ClaimedBatch]
) -> str | None:
    """Why the run is not moving, in words; the nearest cause first."""
    if run.status in {RunState.SUCCEEDED, RunState.CANCELLED}:
        return None
    if run.status is RunState.FAILED:
        return "it failed; once the cause is gone, `backfill run` resumes it"
    if not driven:
        why = f" ({run.reason})" if run.reason else ""
        return f"no process drives it{why}; `backfill run` goes on from its checkpoints"
    committing = value(connection, SYNCHRONOUS)
    if committing is not None and committing > SYNCHRONOUS_SECONDS:
        return (
            f"our commits wait for a synchronous standby, for {committing:.0f} s: it is gone or far behind; bring it "
            "back, or take it out of synchronous_standby_names"
        )
    if age > SILENT_SECONDS:
        return (
            f"its driver {run.holder} has not been heard for {age:.0f} s, and still holds the lock: "
            "stopped, swapped out, or cut off; end that process and type `backfill run`"
        )
    if run.status is RunState.PAUSING:
        return "told to pause; the workers finish their transactions"
    if run.status is RunState.PAUSED:
        return "paused; `backfill resume` lets it go on"
    if run.status is RunState.CANCELLING:
        return "told to cancel; the workers finish their transactions"
    if run.throttled:
        return run.throttled
    blocked = rows(connection, BLOCKED)
    if blocked:
        ((who, seconds),) = blocked
        return f"{who} holds a lock for {seconds or 0:.0f} s that we need"
    retried = next((claimed for claimed in claimed_batches if claimed.transient_error), None)
    if retried is not None:
        return f"{retried.table} is tried again after {retried.transient_error} ({retried.retries} retries so far)"
    return None


def _idle(
    connection: Connection, run: Run, now: datetime, claimed_batches: Sequence[ClaimedBatch]
) -> str | None:
    """That no worker takes anything, though something is left for them."""
    if run.status is not RunState.RUNNING or run.phase.work is not Work.LINK or claimed_batches:
        return None
    moments = [row.finished or row.claimed for row in batches.all_of(connection, run.id)]
    last = max((moment for moment in moments if moment is not None), default=run.created)
    idle = (now - last).total_seconds()
    if idle < SILENT_SECONDS or not batches.open_batches(connection, run.id, run.phase):
        return None
    return (
        f"no worker has taken a batch for {idle:.0f} s; with --dask: are its scheduler and its workers there?"
    )
