"""Dry runs: what a job in place would rewrite, as it was counted; the number that a consent has to name."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import Connection, func, select

from backfill.ledger import decisions, raw_columns
from backfill.ledger.tables import dry_runs
from backfill.plan import InPlaceJob

VALID = timedelta(hours=24)  # how old a dry run may be whose number is confirmed


@dataclass(frozen=True)
class Counts:
    """Rows of a table, each in one class: rows = null + not due + already + readable + unreadable."""

    rows: int
    null: int
    not_due: int
    already: int  # in the form that the job writes
    readable: int  # an address
    unreadable: Mapping[str, int]  # by reason
    texts: int  # distinct ones, of readable and unreadable rows
    more_texts: bool  # there are more than were told apart
    oldest: str | None
    newest: str | None
    duplicates: int = 0  # equal to another row in a unique index, once they are rewritten
    unique_keys: Sequence[str] = ()  # those indexes

    @property
    def no_address(self) -> int:
        """Rows whose text is no address."""
        return sum(self.unreadable.values())

    def rewrites(self, job: InPlaceJob) -> int:
        """Rows that a run would rewrite now."""
        return self.readable + (self.no_address if job.unreadable == "nothing" else 0)


@dataclass(frozen=True)
class DryRun:
    """One on record."""

    id: int
    rewrites: int
    counts: Counts


def record(connection: Connection, job: InPlaceJob, definition: str, counts: Counts) -> DryRun:
    """Enter one that was just made."""
    rewrites = counts.rewrites(job)
    number: int = connection.execute(
        dry_runs.insert()
        .values(
            job=job.identity,
            definition=definition,
            raw_column=raw_columns.place(connection, job),
            rewrites=rewrites,
            counts=asdict(counts),
            counted_by=decisions.operator(),
        )
        .returning(dry_runs.c.id)
    ).scalar_one()
    return DryRun(number, rewrites, counts)


def newest(connection: Connection, job: InPlaceJob, definition: str) -> DryRun | None:
    """The newest of that definition, where its number still counts, and of the column that stands there now."""
    row = connection.execute(
        select(dry_runs)
        .where(
            dry_runs.c.job == job.identity,
            dry_runs.c.definition == definition,
            dry_runs.c.raw_column == raw_columns.place(connection, job),
            dry_runs.c.finished > func.now() - VALID,
        )
        .order_by(dry_runs.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else DryRun(row.id, row.rewrites, Counts(**row.counts))
