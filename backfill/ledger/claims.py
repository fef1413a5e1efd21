"""Claims: who holds a batch, until when, and what its holder may write.

A checkpoint is written in the transaction that changes the rows it counts, and so is the question whether it is
still ours to write.
"""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, func, select, update

from backfill.engine.leases import Lease
from backfill.ledger import runs as runs_ledger
from backfill.ledger.batches import Batch, PassCounts, split
from backfill.ledger.run_state import BatchState, RunState
from backfill.ledger.runs import holder
from backfill.ledger.tables import batches, runs

LEASE_SECONDS = 60  # longer than any transaction of ours; each pass renews it


class LeaseLost(Exception):
    """Somebody else has taken the batch over; nothing of ours was written."""


class Stopped(Exception):
    """The run is to pause or to end here, and its batches stay at their checkpoints; the text says why, where known."""


def reclaim(connection: Connection, run_id: int, *, failed: bool = True) -> None:
    """Take back every batch that dead workers throttled, at its checkpoint; *failed*: those given up as well.

    Waits for a pass of theirs that is still under way; after that their lease is gone, and with it
    their right to write.
    """
    statuses = (BatchState.RUNNING, BatchState.FAILED) if failed else (BatchState.RUNNING,)
    connection.execute(
        update(batches)
        .where(batches.c.run_id == run_id, batches.c.status.in_(statuses))
        .values(status=BatchState.PENDING, lease=None, lease_until=None, worker=None)
    )


def leases(connection: Connection, run_id: int) -> list[Lease]:
    """Of every batch in somebody's hands."""
    statement = select(
        batches.c.id, batches.c.lease, batches.c.lease_until, _expired().label("expired")
    ).where(batches.c.run_id == run_id, batches.c.status == BatchState.RUNNING)
    return [Lease(*row) for row in connection.execute(statement)]


def take_back(connection: Connection, gone: Sequence[int]) -> list[int]:
    """Take back those of *gone* that no transaction is at work on; returns which.

    From then on their workers may write no more, should they come back.
    """
    idle = select(batches.c.id).where(batches.c.id.in_(gone), batches.c.status == BatchState.RUNNING)
    taken = connection.execute(
        update(batches)
        .where(batches.c.id.in_(idle.with_for_update(skip_locked=True)))
        .values(status=BatchState.PENDING, lease=None, lease_until=None, worker=None)
        .returning(batches.c.id)
    )
    return list(taken.scalars())


def halve(connection: Connection, batch: Batch, lease: uuid.UUID) -> bool:
    """Hand the batch back as two; False, and nothing done, where it is one block or ours no longer."""
    row = connection.execute(select(batches).where(_ours(batch.id, lease)).with_for_update()).one_or_none()
    if row is None or row.last_block - row.first_block < 2:
        return False
    split(connection, Batch.of(row), (row.first_block + row.last_block) // 2)
    release(connection, batch.id, lease)
    return True


def claimed_batches(connection: Connection, run_id: int) -> list[Row[Any]]:
    """What each worker holds: worker, phase, table, range, passes, since, lease_until, retries, error."""
    statement = (
        select(batches)
        .where(batches.c.run_id == run_id, batches.c.status == BatchState.RUNNING)
        .order_by(batches.c.claimed)
    )
    return list(connection.execute(statement).all())


def _expired() -> ColumnElement[bool]:
    return (batches.c.status == BatchState.RUNNING) & (batches.c.lease_until < func.clock_timestamp())


def _free() -> ColumnElement[bool]:
    return (batches.c.status == BatchState.PENDING) | _expired()


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
            _free() | ((batches.c.lease == lease) & (batches.c.status == BatchState.RUNNING)),
        )
        .values(
            status=BatchState.RUNNING,
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


def renew(connection: Connection, batch: Batch, lease: uuid.UUID, transient_error: str | None = None) -> None:
    """The worker's heartbeat where no pass gives one: while it waits. Counts a retry, where it is one.

    Raises ``LeaseLost``.
    """
    values: dict[str, Any] = {"lease_until": _term()}
    if transient_error is not None:
        values |= {"retries": batches.c.retries + 1, "error": transient_error}
        runs_ledger.count_retry(connection, batch.run_id, transient_error)
    kept = connection.execute(
        update(batches).where(batches.c.id == batch.id, batches.c.lease == lease).values(**values)
    )
    if kept.rowcount == 0:
        raise LeaseLost


def fence(connection: Connection, batch: Batch, lease: uuid.UUID) -> int:
    """Lock the batch for this transaction and return its passes done.

    The fence: asked in the same transaction as the data, so that a worker that was given up and
    comes back cannot write. Raises ``LeaseLost``, and ``Stopped`` when the run is no longer to go on
    or waits for something.
    """
    row = connection.execute(
        select(batches.c.passes_done, runs.c.status, runs.c.throttled)
        .join(runs, runs.c.id == batches.c.run_id)
        .where(batches.c.id == batch.id, batches.c.lease == lease)
        .with_for_update(of=batches)
    ).one_or_none()
    if row is None:
        raise LeaseLost
    if row.status != RunState.RUNNING or row.throttled is not None:
        raise Stopped
    return int(row.passes_done)


def take_turn(connection: Connection, batch: Batch) -> None:
    """For a pass that may meet rows of other batches of its job: beside theirs, and once its batch was tried again, alone.

    Until the transaction ends. An advisory lock, since whoever waits for it comes before those who ask later: share locks
    of a row are granted past a waiter, and two other workers kept it waiting for more than 15 s. Whoever waits holds no row
    of the application, so the timeout of a statement is limit enough.
    """
    retries = connection.execute(select(batches.c.retries).where(batches.c.id == batch.id)).scalar_one()
    turn = func.hashtextextended(f"backfill turn {batch.run_id} {batch.job}", 0)
    limit = connection.execute(select(func.current_setting("lock_timeout"))).scalar_one()
    connection.execute(select(func.set_config("lock_timeout", "0", True)))
    alone = func.pg_advisory_xact_lock if retries else func.pg_advisory_xact_lock_shared
    connection.execute(select(alone(turn)))
    connection.execute(select(func.set_config("lock_timeout", limit, True)))


def count_duplicates(connection: Connection, batch: Batch, *, deleted: int, quarantined: int) -> None:
    """Count what became of rows that would have been equal to others, in the transaction that did it."""
    connection.execute(
        update(batches)
        .where(batches.c.id == batch.id)
        .values(deleted=batches.c.deleted + deleted, quarantined=batches.c.quarantined + quarantined)
    )


def count_places(connection: Connection, batch: Batch, *, placed: int, own: int, alone: int = 0) -> None:
    """Count rows that have the place of their address, or one of their own, in the transaction that wrote them.

    *alone*: of the first, those that had everything else.
    """
    connection.execute(
        update(batches)
        .where(batches.c.id == batch.id)
        .values(
            placed=batches.c.placed + placed,
            own_places=batches.c.own_places + own,
            placed_alone=batches.c.placed_alone + alone,
        )
    )


def count_pass(
    connection: Connection, batch_id: int, counts: PassCounts, *, seconds: float, passes: int = 1
) -> None:
    """Count one more pass, and its rows; the last one ends the batch. A part of a pass counts none."""
    last = batches.c.passes_done + passes >= batches.c.passes
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(
            passes_done=batches.c.passes_done + passes,
            rows=batches.c.rows + counts.rows,
            already_linked=func.coalesce(batches.c.already_linked, counts.already_linked),
            written=batches.c.written + counts.written,
            quarantined=batches.c.quarantined + counts.quarantined,
            seconds=batches.c.seconds + seconds,
            longest=func.greatest(batches.c.longest, seconds),
            lease_until=_term(),
            status=case((last, BatchState.SUCCEEDED), else_=BatchState.RUNNING),
            finished=case((last, func.clock_timestamp())),
            error=None,  # what was retried is over; the count of retries stays
        )
    )


def fail(connection: Connection, batch_id: int, lease: uuid.UUID, error: str) -> None:
    """Give the batch up, with the class of its error."""
    connection.execute(
        update(batches)
        .where(_ours(batch_id, lease))
        .values(status=BatchState.FAILED, error=error, lease=None, lease_until=None)
    )


def release(connection: Connection, batch_id: int, lease: uuid.UUID) -> None:
    """Hand a batch back at its checkpoint."""
    connection.execute(
        update(batches)
        .where(_ours(batch_id, lease))
        .values(status=BatchState.PENDING, lease=None, lease_until=None, worker=None)
    )


def _ours(batch_id: int, lease: uuid.UUID) -> ColumnElement[bool]:
    """Under that lease, and not done: one whose last commit was answered to nobody is, whatever we think.

    Handed back, it would be pending with no pass left to do, and nobody could ever end it.
    """
    return (batches.c.id == batch_id) & (batches.c.lease == lease) & (batches.c.status == BatchState.RUNNING)


def _term() -> Any:
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, LEASE_SECONDS)
