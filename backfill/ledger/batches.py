"""Batches: the checkpoints of a run: which ranges there are, and what has become of them.

Who holds one, and what a holder may write, is ``claims``.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Row,
    Text,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from backfill.database.blocks import Range
from backfill.job_id import JobId
from backfill.ledger.phases import Phase, Work, named
from backfill.ledger.run_state import BatchState
from backfill.ledger.tables import batches

# What was written to tables that lie elsewhere since (VACUUM FULL).
MOVED = named("moved-link")
# What batches of another job of the table wrote as well.
SHARED = named("shared-link")


@dataclass(frozen=True)
class Batch:
    """A range of blocks of one job's table in one phase of a run."""

    id: int
    run_id: int
    phase: Phase
    job: JobId
    range: Range
    passes: int
    passes_done: int

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From a row of ``select(batches)``."""
        return cls(
            id=row.id,
            run_id=row.run_id,
            phase=row.phase,
            job=row.job,
            range=Range(row.first_block, row.last_block),
            passes=row.passes,
            passes_done=row.passes_done,
        )


@dataclass(frozen=True)
class PassCounts:
    """What one transaction did to a batch."""

    rows: int = 0
    already_linked: int | None = None  # before the run touched the range; the first count stands
    written: int = 0
    quarantined: int = 0
    seconds: float = 0.0  # the longest transaction; of resolve, all of them: they are of equal size


@dataclass(frozen=True)
class Failure:
    """A batch given up, for good in this attempt of the run."""

    phase: Phase
    job: JobId
    range: Range
    error: str


def plan(
    connection: Connection, run_id: int, phase: Phase, job: JobId, ranges: Iterable[Range], passes: int
) -> None:
    """Enter the batches of a phase."""
    rows = [
        {
            "run_id": run_id,
            "phase": phase,
            "job": job,
            "first_block": span.first,
            "last_block": span.last,
            "passes": passes,
        }
        for span in ranges
    ]
    if rows:
        connection.execute(batches.insert(), rows)


def forget(connection: Connection, run_id: int, *, phase: Phase, job: JobId | None = None) -> None:
    """Drop a phase's batches, so that it is planned again. What they have written stays on record, under ``MOVED``."""
    where = [batches.c.run_id == run_id, batches.c.phase == phase]
    if job is not None:
        where.append(batches.c.job == job)
    if phase.work is Work.LINK:
        _keep_counts(connection, run_id, where)
    connection.execute(batches.delete().where(*where))


def _keep_counts(connection: Connection, run_id: int, where: Sequence[ColumnElement[bool]]) -> None:
    counted = (
        batches.c.written,
        batches.c.quarantined,
        batches.c.deleted,
        batches.c.placed,
        batches.c.own_places,
        batches.c.placed_alone,
        batches.c.seconds,
    )
    sums = select(batches.c.job, *(func.sum(column).label(column.name) for column in counted)).where(*where)
    for row in connection.execute(sums.group_by(batches.c.job).having(func.sum(batches.c.written) > 0)).all():
        kept = (batches.c.run_id == run_id) & (batches.c.phase == MOVED) & (batches.c.job == row.job)
        added = {column.name: column + getattr(row, column.name) for column in counted}
        if connection.execute(update(batches).where(kept).values(**added)).rowcount:
            continue
        connection.execute(
            batches.insert().values(
                run_id=run_id,
                phase=MOVED,
                first_block=0,
                last_block=0,
                passes=1,
                passes_done=1,
                status=BatchState.SUCCEEDED,
                finished=func.clock_timestamp(),
                **row._mapping,
            )
        )


def count_shared(connection: Connection, batch: Batch, job: JobId, written: int, seconds: float) -> None:
    """Count rows of *job* that a pass of *batch*, which is another job's, has written, in its transaction."""
    if not written:
        return
    statement = insert(batches).values(
        run_id=batch.run_id,
        phase=SHARED,
        job=job,
        first_block=batch.range.first,
        last_block=batch.range.last,
        passes=1,
        passes_done=1,
        status=BatchState.SUCCEEDED,
        finished=func.clock_timestamp(),
        written=written,
        seconds=seconds,
        longest=seconds,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["run_id", "phase", "job", "first_block"],
            set_={
                "written": batches.c.written + written,
                "seconds": batches.c.seconds + seconds,
                "longest": func.greatest(batches.c.longest, seconds),
                "finished": func.clock_timestamp(),
            },
        )
    )


def restart(connection: Connection, run_id: int, *, phase: Phase) -> None:
    """Begin a phase's batches anew; what was counted before the run changed anything stays."""
    connection.execute(
        update(batches)
        .where(batches.c.run_id == run_id, batches.c.phase == phase)
        .values(status=BatchState.PENDING, passes_done=0, rows=0, lease=None, lease_until=None, worker=None)
    )


def already_linked(connection: Connection, run_id: int, phase: Phase, job: JobId) -> int:
    """Rows that had a link before the run came to them."""
    counted = connection.execute(
        select(func.coalesce(func.sum(batches.c.already_linked), 0)).where(
            batches.c.run_id == run_id, batches.c.phase == phase, batches.c.job == job
        )
    ).scalar_one()
    return int(counted)


def written_by_workers(connection: Connection, run_id: int, job: JobId) -> int:
    """Rows of that job that the run's workers wrote, in all phases."""
    counted = connection.execute(
        select(batches.c.phase, func.sum(batches.c.written))
        .where(batches.c.run_id == run_id, batches.c.job == job)
        .group_by(batches.c.phase)
    ).all()
    return sum(int(rows) for phase, rows in counted if phase.work is Work.LINK)


def phase(connection: Connection, run_id: int, phase: Phase) -> list[Row[Any]]:
    """All batches of a phase, in the order in which they lie on disk."""
    statement = (
        select(batches).where(batches.c.run_id == run_id, batches.c.phase == phase).order_by(batches.c.id)
    )
    return list(connection.execute(statement).all())


def pick(
    connection: Connection,
    run_id: int,
    phase: Phase,
    *,
    jobs: Sequence[JobId],
    blocks: int,
    one_pass: bool = False,
    besides: Collection[int] = (),
) -> Batch | None:
    """The next batch of *jobs* that nobody holds, in their order and as they lie on disk; not claimed yet.

    *besides* those of ours that no worker has claimed yet. A range of more than *blocks* is split here, so
    that the size is decided as late as it can be: a phase is planned as one range a table. *one_pass* for
    batches that are still untouched.
    """
    row = connection.execute(
        select(batches)
        .where(
            batches.c.run_id == run_id,
            batches.c.phase == phase,
            batches.c.job.in_(list(jobs)),
            _pending(),
            batches.c.id.not_in(list(besides)),
        )
        .order_by(func.array_position(cast(list(jobs), ARRAY(Text)), batches.c.job), batches.c.first_block)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    batch = Batch.of(row)
    if batch.range.last - batch.range.first > blocks:
        split(connection, batch, batch.range.first + blocks)
        batch = replace(batch, range=Range(batch.range.first, batch.range.first + blocks))
    if one_pass and batch.passes_done == 0 and batch.passes > 1:
        connection.execute(update(batches).where(batches.c.id == batch.id).values(passes=1))
        batch = replace(batch, passes=1)
    return batch


def split(connection: Connection, batch: Batch, at: int) -> None:
    """End *batch* at block *at*; the rest becomes a batch at the same pass. Counts stay with the head.

    Passes go over the halves of a batch in turn, and the parts have other halves: both go back to where the
    last round of two was done. Doing a pass again costs a look.
    """
    rounds = batches.c.passes_done - batches.c.passes_done % 2
    tail = select(
        batches.c.run_id,
        batches.c.phase,
        batches.c.job,
        literal(at).label("first_block"),
        batches.c.last_block,
        batches.c.passes,
        rounds.label("passes_done"),
        # What was counted in the whole range must not be counted in its tail again.
        case((batches.c.already_linked.is_not(None), 0)).label("already_linked"),
    ).where(batches.c.id == batch.id)
    connection.execute(batches.insert().from_select([column.name for column in tail.selected_columns], tail))
    connection.execute(
        update(batches).where(batches.c.id == batch.id).values(last_block=at, passes_done=rounds)
    )


def open_batches(
    connection: Connection, run_id: int, phase: Phase, *, jobs: Collection[JobId] | None = None
) -> int:
    """Batches of the phase, of all jobs or of *jobs*, that are neither done nor given up."""
    statement = select(func.count()).where(
        batches.c.run_id == run_id,
        batches.c.phase == phase,
        batches.c.status.in_((BatchState.PENDING, BatchState.RUNNING)),
    )
    if jobs is not None:
        statement = statement.where(batches.c.job.in_(list(jobs)))
    return int(connection.execute(statement).scalar_one())


def blocks_left(connection: Connection, run_id: int, phase: Phase, besides: Collection[int] = ()) -> int:
    """Blocks of the phase that nobody has taken yet; *besides* were handed out, and may not be taken yet."""
    statement = select(func.coalesce(func.sum(batches.c.last_block - batches.c.first_block), 0)).where(
        batches.c.run_id == run_id, batches.c.phase == phase, _pending(), batches.c.id.not_in(besides)
    )
    return int(connection.execute(statement).scalar_one())


def written(connection: Connection, run_id: int, phase: Phase) -> int:
    """Rows or texts that the phase has written, earlier attempts included."""
    statement = select(func.coalesce(func.sum(batches.c.written), 0)).where(
        batches.c.run_id == run_id, batches.c.phase == phase
    )
    return int(connection.execute(statement).scalar_one())


def placed_alone(connection: Connection, job: JobId) -> int:
    """Of these rows, those that had everything but the place of their address."""
    statement = select(func.coalesce(func.sum(batches.c.placed_alone), 0)).where(batches.c.job == job)
    return int(connection.execute(statement).scalar_one())


def rewritten(connection: Connection, job: JobId) -> int:
    """Rows of that job that batches of all runs have written, sweeps included; a row may be written more than once."""
    statement = select(func.coalesce(func.sum(batches.c.written), 0)).where(batches.c.job == job, _writes())
    return int(connection.execute(statement).scalar_one())


def may_be_written(connection: Connection, job: JobId, planned: Collection[JobId]) -> int:
    """The most rows of that job's table that runs may have given a result: those of the job, and those of every job that
    is not *planned*, since its table may be this one under an earlier name.
    """
    written = func.sum(batches.c.written - batches.c.placed_alone)
    statement = select(func.coalesce(written, 0)).where(
        or_(batches.c.job == job, batches.c.job.not_in(list(planned))), _writes()
    )
    return int(connection.execute(statement).scalar_one())


def deleted(connection: Connection, job: JobId, run_id: int | None = None) -> int:
    """Rows of that job that batches of all runs, or of one, have deleted as duplicates."""
    statement = select(func.coalesce(func.sum(batches.c.deleted), 0)).where(batches.c.job == job)
    if run_id is not None:
        statement = statement.where(batches.c.run_id == run_id)
    return int(connection.execute(statement).scalar_one())


def places(connection: Connection, job: JobId, run_id: int | None = None) -> tuple[int, int]:
    """Rows of that job that batches of all runs, or of one, gave the place of their address; and that kept one of their own."""
    sums = [func.coalesce(func.sum(column), 0) for column in (batches.c.placed, batches.c.own_places)]
    statement = select(*sums).where(batches.c.job == job)
    if run_id is not None:
        statement = statement.where(batches.c.run_id == run_id)
    placed, own = connection.execute(statement).one()
    return int(placed), int(own)


def rewritten_since(connection: Connection, job: JobId, moment: datetime) -> bool:
    """Whether a batch of that job has written, and ended or went on, after that *moment*."""
    where = batches.c
    statement = select(where.id).where(
        where.job == job, where.written > 0, func.coalesce(where.finished, func.now()) > moment
    )
    return connection.execute(statement.limit(1)).first() is not None


def failures(connection: Connection, run_id: int) -> list[Failure]:
    """What was given up, in order."""
    statement = (
        select(batches)
        .where(batches.c.run_id == run_id, batches.c.status == BatchState.FAILED)
        .order_by(batches.c.id)
    )
    return [
        Failure(row.phase, row.job, Range(row.first_block, row.last_block), row.error)
        for row in connection.execute(statement)
    ]


def _writes() -> ColumnElement[bool]:
    """Phases in which rows of the application are written, in all sweeps."""
    phase = cast(batches.c.phase, Text)
    return or_(phase == str(Work.LINK), phase.like(f"%-{Work.LINK}"))


def _pending() -> ColumnElement[bool]:
    return batches.c.status == BatchState.PENDING


def all_of(connection: Connection, run_id: int) -> list[Row[Any]]:
    """Every batch of the run, in the order in which their tables and phases began."""
    return list(
        connection.execute(select(batches).where(batches.c.run_id == run_id).order_by(batches.c.id)).all()
    )
