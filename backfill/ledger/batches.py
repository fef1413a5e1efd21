"""Batches: the checkpoints. Each is written in the transaction that changes the rows it counts."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Connection, Row, case, func, select, update

from backfill.database.heap import Range
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


def reclaim(connection: Connection, run_id: int) -> None:
    """Take back every batch that a dead driver's workers held or gave up, at its checkpoint.

    Waits for a pass of theirs that is still under way; after that their lease is gone, and with it
    their right to write.
    """
    connection.execute(
        update(batches)
        .where(batches.c.run_id == run_id, batches.c.status.in_((BatchStatus.RUNNING, BatchStatus.FAILED)))
        .values(status=BatchStatus.PENDING, lease=None, lease_until=None, worker=None)
    )


def phase(connection: Connection, run_id: int, phase: str) -> list[Row[Any]]:
    """All batches of a phase, in the order in which they lie on disk."""
    statement = (
        select(batches).where(batches.c.run_id == run_id, batches.c.phase == phase).order_by(batches.c.id)
    )
    return list(connection.execute(statement).all())


def claim(connection: Connection, batch_id: int) -> tuple[Batch, uuid.UUID] | None:
    """Take the lease of a batch nobody holds; ``None`` where it is held or done."""
    lease = uuid.uuid4()
    row = connection.execute(
        update(batches)
        .where(
            batches.c.id == batch_id,
            (batches.c.status == BatchStatus.PENDING)
            | ((batches.c.status == BatchStatus.RUNNING) & (batches.c.lease_until < func.clock_timestamp())),
        )
        .values(
            status=BatchStatus.RUNNING,
            lease=lease,
            lease_until=_term(),
            worker=holder(),
            attempts=batches.c.attempts + 1,
            error=None,
        )
        .returning(batches)
    ).one_or_none()
    return (Batch.of(row), lease) if row else None


def hold(connection: Connection, batch: Batch, lease: uuid.UUID) -> int:
    """Lock the batch for this transaction and return its passes done.

    The fence: asked in the same transaction as the data, so that a worker that was given up and
    comes back cannot write. Raises ``LeaseLost``, and ``Stopped`` when the run is no longer to go on.
    """
    row = connection.execute(
        select(batches.c.passes_done, runs.c.status)
        .join(runs, runs.c.id == batches.c.run_id)
        .where(batches.c.id == batch.id, batches.c.lease == lease)
        .with_for_update(of=batches)
    ).one_or_none()
    if row is None:
        raise LeaseLost
    if row.status != RunStatus.RUNNING:
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
        )
    )


def fail(connection: Connection, batch_id: int, lease: uuid.UUID, error: str) -> None:
    """Give the batch up, with the class of its error."""
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.lease == lease)
        .values(status=BatchStatus.FAILED, error=error, lease=None, lease_until=None)
    )


def release(connection: Connection, batch_id: int, lease: uuid.UUID) -> None:
    """Hand a batch back at its checkpoint."""
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.lease == lease)
        .values(status=BatchStatus.PENDING, lease=None, lease_until=None, worker=None)
    )


def _term() -> Any:
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, LEASE_SECONDS)


def progress(connection: Connection, run_id: int) -> list[tuple[Any, ...]]:
    """By phase and table: batches done, batches, rows written, longest transaction in seconds."""
    done = func.count().filter(batches.c.status == BatchStatus.SUCCEEDED)
    statement = (
        select(
            batches.c.phase,
            batches.c.table_name,
            done,
            func.count(),
            func.sum(batches.c.written),
            func.max(batches.c.longest),
        )
        .where(batches.c.run_id == run_id)
        .group_by(batches.c.phase, batches.c.table_name)
        .order_by(func.min(batches.c.id))
    )
    return [
        (phase, table, *(int(n) for n in numbers), float(longest))
        for phase, table, *numbers, longest in connection.execute(statement)
    ]
