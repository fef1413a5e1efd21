"""Runs: one row an invocation and its resumptions; the only place that writes them."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import BigInteger, Connection, Row, Text, any_, cast, func, literal, select, update

from backfill.database.blocks import Heap
from backfill.errors import NoRun, TransitionRefused
from backfill.job_id import JobId
from backfill.ledger.phases import Phase
from backfill.ledger.run_state import TRANSITIONS, UNFINISHED, RunState
from backfill.ledger.tables import run_tables, runs


@dataclass(frozen=True)
class Identity:
    """What makes two invocations the same run: the second resumes the first."""

    jobs: tuple[JobId, ...]
    plan_name: str
    plan_fingerprint: str
    scheme: str
    key_id: str
    geo_type: str | None  # None: no place is looked up
    geo_build: datetime | None
    strategy: str = "in-place"


@dataclass(frozen=True)
class Run:
    """A row of ``runs``."""

    id: int
    identity: Identity
    status: RunState
    phase: Phase
    map_rows: int
    attempts: int
    holder: str | None
    error: str | None
    reason: str | None
    throttled: str | None
    throttled_since: datetime | None
    pinned: str | None
    batch_blocks: int | None
    retries: Mapping[str, int]
    forecast: Mapping[str, Any] | None
    outcome: Mapping[str, Any] | None
    created: datetime
    heartbeat: datetime
    finished: datetime | None

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From a row of ``select(runs)``."""
        fields = row._mapping
        return cls(
            identity=Identity(
                jobs=tuple(fields["jobs"]),
                **{name: fields[name] for name in Identity.__dataclass_fields__ if name != "jobs"},
            ),
            status=RunState(fields["status"]),
            **{name: fields[name] for name in cls.__dataclass_fields__ if name not in {"identity", "status"}},
        )


def holder() -> str:
    """Who we are, for the operator who wonders: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def latest(connection: Connection) -> Run:
    """The newest run. Raises ``NoRun``."""
    row = connection.execute(select(runs).order_by(runs.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        raise NoRun(what="run", command="backfill run")
    return Run.of(row)


def last_success(connection: Connection, job: JobId) -> str | None:
    """When the last successful run of that job ended, as the server writes it."""
    return connection.execute(
        select(cast(func.max(runs.c.finished), Text)).where(
            runs.c.status == RunState.SUCCEEDED, literal(job) == any_(runs.c.jobs)
        )
    ).scalar()


def get(connection: Connection, run_id: int) -> Run:
    """The run of that number, which exists."""
    return Run.of(connection.execute(select(runs).where(runs.c.id == run_id)).one())


def unfinished(connection: Connection, identity: Identity) -> Run | None:
    """The run of that identity that can be resumed; other unfinished runs on its tables are cancelled.

    They share one address map with us, and their place in it is gone.
    """
    rows = connection.execute(
        select(runs).where(runs.c.status.in_(UNFINISHED)).order_by(runs.c.id.desc())
    ).all()
    same = None
    for run in map(Run.of, rows):
        if run.status is RunState.CANCELLING:  # its driver died before it could
            move(connection, run.id, RunState.CANCELLED)
        elif same is None and run.identity == identity:
            same = run
        elif set(run.identity.jobs) & set(identity.jobs):
            move(connection, run.id, RunState.CANCELLED, error="superseded by a later run")
    return same


def confirmed(connection: Connection, key_id: str, scheme: str, explained: int) -> int:
    """How many live hashes confirm salt and scheme; *explained* of the stored ones agree with them now.

    After a run the stored hashes may be ours, so what was found before the first one counts; and where
    nothing was, a new name for the same salt must not make our own hashes confirm it.
    """
    before = connection.execute(
        select(runs.c.confirmed)
        .where(runs.c.key_id == key_id, runs.c.scheme == scheme)
        .order_by(runs.c.id.desc())
        .limit(1)
    ).scalar()
    if before is not None:
        return int(before)
    ours = connection.execute(select(func.count()).select_from(runs).where(runs.c.confirmed == 0)).scalar()
    return 0 if ours else explained


def create(
    connection: Connection, identity: Identity, *, mismatches: int, phase: Phase, explained: int = 0
) -> Run:
    """A new run of ours, running; *explained* of the stored hashes agree with its salt and scheme."""
    values: Mapping[str, Any] = vars(identity) | {"jobs": list(identity.jobs)}
    row = connection.execute(
        runs.insert()
        .values(
            **values,
            status=RunState.RUNNING,
            phase=phase,
            mismatches=mismatches,
            holder=holder(),
            confirmed=confirmed(connection, identity.key_id, identity.scheme, explained),
        )
        .returning(runs)
    ).one()
    return Run.of(row)


def move(connection: Connection, run_id: int, status: RunState, **values: Any) -> None:
    """Put the run into *status*, where ``TRANSITIONS`` allows it from where it stands."""
    allowed = [before for before, following in TRANSITIONS.items() if status in following]
    changes: dict[str, Any] = {"status": status, "heartbeat": func.clock_timestamp(), **values}
    if status not in UNFINISHED or status is RunState.FAILED:
        changes["finished"] = func.clock_timestamp()
    changed = connection.execute(
        update(runs).where(runs.c.id == run_id, runs.c.status.in_(allowed)).values(**changes)
    )
    if changed.rowcount == 0:
        state = connection.execute(select(runs.c.status).where(runs.c.id == run_id)).scalar()
        raise TransitionRefused(run=run_id, state=state, wanted=status)


def resume(connection: Connection, run: Run) -> Run:
    """Take the run up again, at its place, as its new holder."""
    move(
        connection,
        run.id,
        RunState.RUNNING,
        holder=holder(),
        attempts=run.attempts + 1,
        error=None,
        reason=None,
        throttled=None,
        throttled_since=None,
        finished=None,
    )
    return get(connection, run.id)


def keep(connection: Connection, run_id: int) -> None:
    """Have the run's row to ourselves until commit; the heart beats a moment later.

    The first statement of a REPEATABLE READ transaction that is to change the row at its end: a beat
    between the two would end it.
    """
    connection.execute(select(runs.c.id).where(runs.c.id == run_id).with_for_update(key_share=True))


def beat(connection: Connection, run_id: int) -> None:
    """The driver lives."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(heartbeat=func.clock_timestamp()))


def throttle(connection: Connection, run_id: int, reason: str | None) -> None:
    """Note what the run waits for; None: for nothing any more. Workers stop between two transactions."""
    statement = update(runs).where(runs.c.id == run_id)
    if reason is None:  # asked every second: no row is written where nothing is throttled
        statement = statement.where(runs.c.throttled.is_not(None)).values(
            throttled=None, throttled_since=None
        )
    else:
        since = func.coalesce(runs.c.throttled_since, func.clock_timestamp())
        statement = statement.values(throttled=reason, throttled_since=since)
    connection.execute(statement)


def note(connection: Connection, run_id: int, **values: Any) -> None:
    """Note what status shows and nothing stands on: batch size, who pins snapshots."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


def count_retry(connection: Connection, run_id: int, kind: str) -> None:
    """One more retry of that kind."""
    so_far = func.coalesce(runs.c.retries[kind].astext.cast(BigInteger), 0)
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(retries=runs.c.retries.op("||")(func.jsonb_build_object(kind, so_far + 1)))
    )


def enter(connection: Connection, run_id: int, phase: Phase) -> None:
    """Note that the run has come to *phase*."""
    connection.execute(
        update(runs).where(runs.c.id == run_id).values(phase=phase, heartbeat=func.clock_timestamp())
    )


def set_definitions(connection: Connection, run_id: int, definitions: Mapping[JobId, str]) -> bool:
    """Keep what preflight saw of each table, with which batches compare; whether that is something new."""
    new = dict(definitions)
    changed = connection.execute(
        update(runs).where(runs.c.id == run_id, runs.c.definitions != new).values(definitions=new)
    )
    return changed.rowcount > 0


def add_map_rows(connection: Connection, run_id: int, count: int) -> None:
    """Count texts that entered the map, in the transaction that entered them."""
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(map_rows=runs.c.map_rows + count, heartbeat=func.clock_timestamp())
    )


def set_map_rows(connection: Connection, run_id: int, count: int) -> None:
    """Begin the count of the map anew."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(map_rows=count))


@dataclass(frozen=True)
class TableCount:
    """A table's closing count; ``rows`` is the sum of the others."""

    job: JobId
    rows: int
    linked: int
    already_linked: int
    no_address: int
    quarantined: int
    left_to_live: int
    kept: int = 0  # as they are, by a trigger of the application
    not_due: int = 0  # raw, and not old enough


def plan_table(connection: Connection, run_id: int, job: JobId, heap: Heap) -> None:
    """Note where that table's blocks are; forgets an earlier note."""
    connection.execute(run_tables.delete().where(run_tables.c.run_id == run_id, run_tables.c.job == job))
    connection.execute(run_tables.insert().values(run_id=run_id, job=job, **vars(heap)))


def planned(connection: Connection, run_id: int) -> dict[JobId, Row[Any]]:
    """The noted tables by job: filenode, blocks, rows and the closing counts."""
    rows = connection.execute(select(run_tables).where(run_tables.c.run_id == run_id)).all()
    return {row.job: row for row in rows}


def close_table(connection: Connection, run_id: int, count: TableCount) -> None:
    """Record a table's closing count."""
    values = {name: number for name, number in vars(count).items() if name != "job"}
    connection.execute(
        update(run_tables)
        .where(run_tables.c.run_id == run_id, run_tables.c.job == count.job)
        .values(**values)
    )


def closing(connection: Connection, run_id: int, order: Sequence[JobId]) -> list[TableCount]:
    """The closing counts of a run, those that were made, in that order of jobs."""
    names = TableCount.__dataclass_fields__
    found = {
        name: TableCount(**{field: getattr(row, field) for field in names})
        for name, row in planned(connection, run_id).items()
        if row.linked is not None
    }
    return [found[name] for name in order if name in found]
