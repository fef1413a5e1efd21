"""Verification ranges: ranges read and what they held, so that an interrupted one goes on at its place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, func, null, select, update

from backfill.database.blocks import Range
from backfill.job_id import JobId
from backfill.ledger.counts import Count
from backfill.ledger.tables import decisions, runs, verification_addresses, verification_ranges, verifications

RESUME_HOURS = 24  # what was counted before that is too old to be part of a proof of today


@dataclass(frozen=True)
class Part:
    """A range of one table that has not been read."""

    job: JobId
    range: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeCounts:
    """What one range held."""

    counts: Mapping[Count, int]
    quarantined: Mapping[str, int] = field(default_factory=dict)  # by reason
    kept: Mapping[str, int] = field(default_factory=dict)  # in place: unreadable texts that stay, by reason
    newest_raw: str | None = None
    since_run: int = 0  # raw values written since the last run of this table ended
    ahead: int = 0  # in place, with an age: rows more than a day in the future
    ahead_raw: int = 0  # of these, with a raw value
    wrong_keys: tuple[str, ...] = ()
    other_spellings: int = 0  # texts that are not the linked address's own, and a checksum of them
    checksum: int = 0


_RANGE: TypeAdapter[RangeCounts] = TypeAdapter(RangeCounts)


def changes(connection: Connection) -> dict[str, Any]:
    """What Backfill itself did last: after any of it, earlier counts say nothing."""
    run = connection.execute(
        select(func.max(runs.c.id), func.max(func.greatest(runs.c.heartbeat, runs.c.finished)))
    ).one()
    decided = connection.execute(select(func.max(decisions.c.id), func.sum(decisions.c["count"]))).one()
    return {
        "run": run[0],
        "run seen": run[1].isoformat() if run[1] else None,
        "decision": decided[0],
        "decided": int(decided[1] or 0),  # one decision may be about many transactions
    }


def begin(connection: Connection, ground: Mapping[str, Any], transaction: str) -> tuple[int, str, bool]:
    """Number and first transaction of a verification on that ground, and whether it is resumed."""
    fresh = func.clock_timestamp() - verifications.c.started < func.make_interval(0, 0, 0, 0, RESUME_HOURS)
    found = connection.execute(
        select(verifications.c.id, verifications.c.first_transaction)
        .where(verifications.c.status == "running", verifications.c.ground == dict(ground), fresh)
        .order_by(verifications.c.id.desc())
        .limit(1)
    ).one_or_none()
    if found is not None:
        return int(found.id), str(found.first_transaction), True
    connection.execute(
        update(verifications).where(verifications.c.status == "running").values(status="abandoned")
    )
    clear(connection)
    number = connection.execute(
        verifications.insert()
        .values(ground=dict(ground), status="running", first_transaction=transaction)
        .returning(verifications.c.id)
    ).scalar_one()
    return int(number), transaction, False


def snapshot(connection: Connection, number: int) -> str:
    """The snapshot from before its first range, as text."""
    where = verifications.c
    return str(connection.execute(select(where.snapshot).where(where.id == number)).scalar_one())


def began(connection: Connection, number: int) -> datetime:
    """When it began, by the server's clock: one moment for all of its ranges, also where it was resumed."""
    where = verifications.c
    moment: datetime = connection.execute(select(where.started).where(where.id == number)).scalar_one()
    return moment


def plan(connection: Connection, number: int, job: JobId, ranges: Iterable[Range]) -> None:
    """Enter ranges to be read."""
    found = [
        {
            "verification_id": number,
            "job": job,
            "first_block": span.first,
            "last_block": span.last,
        }
        for span in ranges
    ]
    if found:
        connection.execute(verification_ranges.insert(), found)


def planned_to(connection: Connection, number: int, job: JobId) -> int | None:
    """The block up to which that table's ranges reach; none where it has none."""
    where = verification_ranges.c
    return connection.execute(
        select(func.max(where.last_block)).where(where.verification_id == number, where.job == job)
    ).scalar()


def unread(connection: Connection, number: int) -> list[Part]:
    """Ranges that are still to be read, the longest first: then all connections come to their end together."""
    where = verification_ranges.c
    statement = (
        select(where.job, where.first_block, where.last_block)
        .where(where.verification_id == number, where.counts.is_(None))
        .order_by((where.first_block - where.last_block), where.job, where.first_block)
    )
    return [Part(name, Range(first, last)) for name, first, last in connection.execute(statement)]


def record_range(
    connection: Connection, number: int, part: Part, counts: RangeCounts, *, hashes_known: bool = True
) -> None:
    """Record what a range held. *hashes_known*: whether all hashes had been judged when it was read."""
    where = verification_ranges.c
    connection.execute(
        update(verification_ranges)
        .where(
            where.verification_id == number,
            where.job == part.job,
            where.first_block == part.range.first,
        )
        .values(counts=_RANGE.dump_python(counts, mode="json"), hashes_known=hashes_known)
    )


def read_again(connection: Connection, number: int) -> None:
    """Forget what event ranges held that were read before all hashes were known."""
    where = verification_ranges.c
    connection.execute(
        update(verification_ranges)
        .where(where.verification_id == number, where.hashes_known.is_(False))
        .values(counts=null())  # None would be a JSON null
    )


def held(connection: Connection, number: int, job: JobId) -> list[RangeCounts]:
    """What the ranges of that table held, in their order."""
    where = verification_ranges.c
    statement = (
        select(where.counts)
        .where(where.verification_id == number, where.job == job, where.counts.is_not(None))
        .order_by(where.first_block)
    )
    return [_RANGE.validate_python(counts) for counts in connection.execute(statement).scalars()]


def finish(connection: Connection, number: int, rows: int) -> None:
    """It came to its end; its ranges and address keys are not needed any more."""
    connection.execute(
        update(verifications)
        .where(verifications.c.id == number)
        .values(status="done", finished=func.clock_timestamp(), rows=rows)
    )
    clear(connection)


def clear(connection: Connection) -> None:
    """Forget all ranges and address keys. One verification works at a time."""
    connection.execute(verification_ranges.delete())
    connection.execute(verification_addresses.delete())
