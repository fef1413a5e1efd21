"""Batches: the checkpoints. Each is written in the transaction that changes the rows it counts."""

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
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
    select,
    update,
)

from backfill.database.heap import Range
from backfill.leases import Lease
from backfill.ledger import runs as runs_ledger
from backfill.ledger.runs import holder
from backfill.ledger.status import BatchStatus, RunStatus
from backfill.ledger.tables import batches, runs

LEASE_SECONDS = 60  # longer than any transaction of ours; each pass renews it


class LeaseLost(Exception):
    """Somebody else has taken the batch over; nothing of ours was written."""


class Stopped(Exception):
    """The run is to pause or to end; the batch stays at its checkpoint."""


@dataclass(frozen=True)
class Batch:
    """A range of blocks of one table in one phase of a run."""

    id: int
    run_id: int
    phase: str
    table_name: str
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
            table_name=row.table_name,
            range=Range(row.first_block, row.last_block),
            passes=row.passes,
            passes_done=row.passes_done,
        )


@dataclass(frozen=True)
class Account:
    """What one transaction did to a batch."""

    rows: int = 0
    already_linked: int | None = None  # before the run touched the range; the first count stands
    written: int = 0
    quarantined: int = 0
    seconds: float = 0.0  # the longest transaction


@dataclass(frozen=True)
class Failure:
    """A batch given up, for good in this attempt of the run."""

    phase: str
    table: str
    range: Range
    error: str


def plan(
    connection: Connection, run_id: int, phase: str, table_name: str, ranges: Iterable[Range], passes: int
) -> None:
    """Enter the batches of a phase."""
    rows = [
        {
            "run_id": run_id,
            "phase": phase,
            "table_name": table_name,
            "first_block": span.first,
            "last_block": span.last,
            "passes": passes,
        }
        for span in ranges
    ]
    if rows:
        connection.execute(batches.insert(), rows)


def forget(connection: Connection, run_id: int, *, phase: str, table_name: str | None = None) -> None:
    """Drop a phase's batches, so that it is planned again."""
    where = [batches.c.run_id == run_id, batches.c.phase == phase]
    if table_name is not None:
        where.append(batches.c.table_name == table_name)
    connection.execute(batches.delete().where(*where))


def restart(connection: Connection, run_id: int, *, phase: str) -> None:
    """Begin a phase's batches anew; what was counted before the run changed anything stays."""
    connection.execute(
        update(batches)
        .where(batches.c.run_id == run_id, batches.c.phase == phase)
        .values(status=BatchStatus.PENDING, passes_done=0, rows=0, lease=None, lease_until=None, worker=None)
    )


def already_linked(connection: Connection, run_id: int, phase: str, table_name: str) -> int:
    """Rows that had a link before the run came to them."""
    counted = connection.execute(
        select(func.coalesce(func.sum(batches.c.already_linked), 0)).where(
            batches.c.run_id == run_id, batches.c.phase == phase, batches.c.table_name == table_name
        )
    ).scalar_one()
    return int(counted)


def reclaim(connection: Connection, run_id: int, *, failed: bool = True) -> None:
    """Take back every batch that dead workers held, at its checkpoint; *failed*: those given up as well.

    Waits for a pass of theirs that is still under way; after that their lease is gone, and with it
    their right to write.
    """
    statuses = (BatchStatus.RUNNING, BatchStatus.FAILED) if failed else (BatchStatus.RUNNING,)
    connection.execute(
        update(batches)
        .where(batches.c.run_id == run_id, batches.c.status.in_(statuses))
        .values(status=BatchStatus.PENDING, lease=None, lease_until=None, worker=None)
    )


def leases(connection: Connection, run_id: int) -> list[Lease]:
    """Of every batch in somebody's hands."""
    statement = select(
        batches.c.id, batches.c.lease, batches.c.lease_until, _expired().label("expired")
    ).where(batches.c.run_id == run_id, batches.c.status == BatchStatus.RUNNING)
    return [Lease(*row) for row in connection.execute(statement)]


def take_back(connection: Connection, gone: Sequence[int]) -> list[int]:
    """Take back those of *gone* that no transaction is at work on; returns which.

    From then on their workers may write no more, should they come back.
    """
    idle = select(batches.c.id).where(batches.c.id.in_(gone), batches.c.status == BatchStatus.RUNNING)
    taken = connection.execute(
        update(batches)
        .where(batches.c.id.in_(idle.with_for_update(skip_locked=True)))
        .values(status=BatchStatus.PENDING, lease=None, lease_until=None, worker=None)
        .returning(batches.c.id)
    )
    return list(taken.scalars())


def phase(connection: Connection, run_id: int, phase: str) -> list[Row[Any]]:
    """All batches of a phase, in the order in which they lie on disk."""
    statement = (
        select(batches).where(batches.c.run_id == run_id, batches.c.phase == phase).order_by(batches.c.id)
    )
    return list(connection.execute(statement).all())


def pick(
    connection: Connection,
    run_id: int,
    phase: str,
    *,
    tables: Sequence[str],
    blocks: int,
    one_pass: bool = False,
    besides: Collection[int] = (),
) -> Batch | None:
    """The next batch of *tables* that nobody holds, in their order and as they lie on disk; not claimed yet.

    *besides* those of ours that no worker has claimed yet. A range of more than *blocks* is split here, so
    that the size is decided as late as it can be: a phase is planned as one range a table. *one_pass* for
    batches that are still untouched.
    """
    row = connection.execute(
        select(batches)
        .where(
            batches.c.run_id == run_id,
            batches.c.phase == phase,
            batches.c.table_name.in_(list(tables)),
            _pending(),
            batches.c.id.not_in(list(besides)),
        )
        .order_by(
            func.array_position(cast(list(tables), ARRAY(Text)), batches.c.table_name), batches.c.first_block
        )
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    batch = Batch.of(row)
    if batch.range.last - batch.range.first > blocks:
        _split(connection, batch, batch.range.first + blocks)
        batch = replace(batch, range=Range(batch.range.first, batch.range.first + blocks))
    if one_pass and batch.passes_done == 0 and batch.passes > 1:
        connection.execute(update(batches).where(batches.c.id == batch.id).values(passes=1))
        batch = replace(batch, passes=1)
    return batch


def _split(connection: Connection, batch: Batch, at: int) -> None:
    """End *batch* at block *at*; the rest becomes a batch at the same pass. Counts stay with the head.

    Passes go over the halves of a batch in turn, and the parts have other halves: both go back to where the
    last round of two was done. Doing a pass again costs a look.
    """
    rounds = batches.c.passes_done - batches.c.passes_done % 2
    tail = select(
        batches.c.run_id,
        batches.c.phase,
        batches.c.table_name,
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


def halve(connection: Connection, batch: Batch, lease: uuid.UUID) -> bool:
    """Hand the batch back as two; False, and nothing done, where it is one block or ours no longer."""
    row = connection.execute(select(batches).where(_ours(batch.id, lease)).with_for_update()).one_or_none()
    if row is None or row.last_block - row.first_block < 2:
        return False
    _split(connection, Batch.of(row), (row.first_block + row.last_block) // 2)
    release(connection, batch.id, lease)
    return True


def open_batches(
    connection: Connection, run_id: int, phase: str, *, tables: Collection[str] | None = None
) -> int:
    """Batches of the phase, of all tables or of *tables*, that are neither done nor given up."""
    statement = select(func.count()).where(
        batches.c.run_id == run_id,
        batches.c.phase == phase,
        batches.c.status.in_((BatchStatus.PENDING, BatchStatus.RUNNING)),
    )
    if tables is not None:
        statement = statement.where(batches.c.table_name.in_(list(tables)))
    return int(connection.execute(statement).scalar_one())


def blocks_left(connection: Connection, run_id: int, phase: str) -> int:
    """Blocks of the phase that nobody has taken yet."""
    statement = select(func.coalesce(func.sum(batches.c.last_block - batches.c.first_block), 0)).where(
        batches.c.run_id == run_id, batches.c.phase == phase, _pending()
    )
    return int(connection.execute(statement).scalar_one())


def written(connection: Connection, run_id: int, phase: str) -> int:
    """Rows or texts that the phase has written, earlier attempts included."""
    statement = select(func.coalesce(func.sum(batches.c.written), 0)).where(
        batches.c.run_id == run_id, batches.c.phase == phase
    )
    return int(connection.execute(statement).scalar_one())


def failures(connection: Connection, run_id: int) -> list[Failure]:
    """What was given up, in order."""
    statement = (
        select(batches)
        .where(batches.c.run_id == run_id, batches.c.status == BatchStatus.FAILED)
        .order_by(batches.c.id)
    )
    return [
        Failure(row.phase, row.table_name, Range(row.first_block, row.last_block), row.error)
        for row in connection.execute(statement)
    ]


def holdings(connection: Connection, run_id: int) -> list[Row[Any]]:
    """What each worker holds: worker, phase, table, range, passes, since, lease_until, retries, error."""
    statement = (
        select(batches)
        .where(batches.c.run_id == run_id, batches.c.status == BatchStatus.RUNNING)
        .order_by(batches.c.claimed)
    )
    return list(connection.execute(statement).all())


def _pending() -> ColumnElement[bool]:
    return batches.c.status == BatchStatus.PENDING


def _expired() -> ColumnElement[bool]:
    return (batches.c.status == BatchStatus.RUNNING) & (batches.c.lease_until < func.clock_timestamp())


def _free() -> ColumnElement[bool]:
    return _pending() | _expired()


def claim(
    connection: Connection, batch_id: int, lease: uuid.UUID | None = None
) -> tuple[Batch, uuid.UUID] | None:
    """Take the batch under a new lease, or under *lease*; ``None`` where somebody else holds it or it is done.

    Taking it twice under one lease is the same as once: the answer to the first may have been lost.
    """
    lease = lease or uuid.uuid4()
    row = connection.execute(
        update(batches)
        .where(
            batches.c.id == batch_id,
            _free() | ((batches.c.lease == lease) & (batches.c.status == BatchStatus.RUNNING)),
        )
        .values(
            status=BatchStatus.RUNNING,
            lease=lease,
            lease_until=_term(),
            claimed=func.clock_timestamp(),
            worker=holder(),
            attempts=batches.c.attempts + 1,
            error=None,
        )
        .returning(batches)
    ).one_or_none()
    return (Batch.of(row), lease) if row else None


def renew(connection: Connection, batch: Batch, lease: uuid.UUID, trouble: str | None = None) -> None:
    """The worker's heartbeat where no pass gives one: while it waits. Counts a retry, where it is one.

    Raises ``LeaseLost``.
    """
    values: dict[str, Any] = {"lease_until": _term()}
    if trouble is not None:
        values |= {"retries": batches.c.retries + 1, "error": trouble}
        runs_ledger.count_retry(connection, batch.run_id, trouble)
    kept = connection.execute(
        update(batches).where(batches.c.id == batch.id, batches.c.lease == lease).values(**values)
    )
    if kept.rowcount == 0:
        raise LeaseLost


def hold(connection: Connection, batch: Batch, lease: uuid.UUID) -> int:
    """Lock the batch for this transaction and return its passes done.

    The fence: asked in the same transaction as the data, so that a worker that was given up and
    comes back cannot write. Raises ``LeaseLost``, and ``Stopped`` when the run is no longer to go on
    or waits for something.
    """
    row = connection.execute(
        select(batches.c.passes_done, runs.c.status, runs.c.held)
        .join(runs, runs.c.id == batches.c.run_id)
        .where(batches.c.id == batch.id, batches.c.lease == lease)
        .with_for_update(of=batches)
    ).one_or_none()
    if row is None:
        raise LeaseLost
    if row.status != RunStatus.RUNNING or row.held is not None:
        raise Stopped
    return int(row.passes_done)


def account(connection: Connection, batch_id: int, account: Account, *, seconds: float) -> None:
    """Count one more pass, and its rows; the last one ends the batch."""
    last = batches.c.passes_done + 1 >= batches.c.passes
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(
            passes_done=batches.c.passes_done + 1,
            rows=batches.c.rows + account.rows,
            already_linked=func.coalesce(batches.c.already_linked, account.already_linked),
            written=batches.c.written + account.written,
            quarantined=batches.c.quarantined + account.quarantined,
            seconds=batches.c.seconds + seconds,
            longest=func.greatest(batches.c.longest, seconds),
            lease_until=_term(),
            status=case((last, BatchStatus.SUCCEEDED), else_=BatchStatus.RUNNING),
            finished=case((last, func.clock_timestamp())),
            error=None,  # what was retried is over; the count of retries stays
        )
    )


def fail(connection: Connection, batch_id: int, lease: uuid.UUID, error: str) -> None:
    """Give the batch up, with the class of its error."""
    connection.execute(
        update(batches)
        .where(_ours(batch_id, lease))
        .values(status=BatchStatus.FAILED, error=error, lease=None, lease_until=None)
    )


def release(connection: Connection, batch_id: int, lease: uuid.UUID) -> None:
    """Hand a batch back at its checkpoint."""
    connection.execute(
        update(batches)
        .where(_ours(batch_id, lease))
        .values(status=BatchStatus.PENDING, lease=None, lease_until=None, worker=None)
    )


def _ours(batch_id: int, lease: uuid.UUID) -> ColumnElement[bool]:
    """Under that lease, and not done: one whose last commit was answered to nobody is, whatever we think.

    Handed back, it would be pending with no pass left to do, and nobody could ever end it.
    """
    return (batches.c.id == batch_id) & (batches.c.lease == lease) & (batches.c.status == BatchStatus.RUNNING)


def _term() -> Any:
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, LEASE_SECONDS)


def all_of(connection: Connection, run_id: int) -> list[Row[Any]]:
    """Every batch of the run, in the order in which their tables and phases began."""
    return list(
        connection.execute(select(batches).where(batches.c.run_id == run_id).order_by(batches.c.id)).all()
    )
