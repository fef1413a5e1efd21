"""Whether a hash that the live application stored has confirmed salt and formula.

Where none was stored when the first run began, every hash there is may be ours: they agree with our salt
because we made them. Right "under this key" is all that a verification can say then, and it says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from sqlalchemy import Connection

from backfill.job_id import JobId
from backfill.ledger import batches, runs
from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.plan import IntoJob, Plan

RIGHT = "every hash is right"
UNCONFIRMED = "as far as the ledger can tell, no hash that the application wrote itself confirms the salt"


@dataclass(frozen=True)
class Confirmation:
    """What the ledger knows of a salt and a scheme."""

    key_id: str
    scheme: str
    planned: frozenset[
        JobId
    ]  # jobs of the plan: what others have written may lie in a table that was renamed since

    @classmethod
    def of(cls, plan: Plan, key_id: str) -> Self:
        """Of the scheme of that plan."""
        return cls(key_id, plan.hash.scheme, frozenset(job.identity for job in plan.jobs))

    def of_addresses(self, connection: Connection, right: int) -> int:
        """How many live hashes confirm them; *right*: those of the address table that agree now."""
        return runs.confirmed(connection, self.key_id, self.scheme, right)

    def of_job(self, connection: Connection, job: IntoJob, right: int) -> int:
        """The same by the column of *job*, or by any other: what was there before the first run counts, whatever became
        of its rows. *right* of the hashes in the column agree now.
        """
        return max(
            runs.confirmed(connection, self.key_id, self.scheme, right),
            self.of_column(connection, job, right),
        )

    def of_column(self, connection: Connection, job: IntoJob, right: int) -> int:
        """How many hashes in the column of *job* itself confirm them, at least: *right* of them are of these.

        A hash that stands there and that no run has written is the application's. Rows that a run wrote and that are
        gone still count as written, as do those of jobs that left the plan: there may be more, never fewer.
        """
        return max(right - batches.may_be_written(connection, job.identity, self.planned), 0)


def with_confirmation(
    connection: Connection, record: CoverageRecord, key_id: str, scheme: str
) -> CoverageRecord:
    """The address table's *record* with how many live hashes confirmed it; with a note where none did."""
    live = runs.confirmed(connection, key_id, scheme, explained(record))
    record = replace(record, confirmed_by=live, evidence=replace(record.evidence, key_id=key_id))
    if live or not record.counts.get(Count.ROWS, 0):
        return record
    note = f"its hashes are {unconfirmed(key_id)}: none was stored when the first run began"
    return replace(record, notes=(*record.notes, note))


def explained(record: CoverageRecord) -> int:
    """Hashes that agree; once the addresses are gone, those that look as if they did."""
    return record.counts.get(Count.HASH_RIGHT, record.counts.get(Count.HASH_OF_RIGHT_FORM, 0))


def form_only(records: Sequence[CoverageRecord]) -> bool:
    """Whether no hash could be recomputed, since the addresses are gone."""
    return any(
        Count.HASH_OF_RIGHT_FORM in record.counts for record in records if record.kind is Kind.ADDRESSES
    )


def unconfirmed(key_id: str | None) -> str:
    """What is known of hashes that no live one confirms."""
    return f"right under key id {key_id}, not confirmed by a live hash"


def claim(records: Sequence[CoverageRecord]) -> str:
    """What may be said of the hashes of a covered database."""
    for record in records:
        if record.kind is not Kind.INTO and record.confirmed_by == 0 and record.counts.get(Count.ROWS, 0):
            return f"every hash is {unconfirmed(record.evidence.key_id)}"
    return RIGHT
