"""Whether a hash that the live application stored has confirmed salt and formula.

Where none was stored when the first run began, every hash there is may be ours: they agree with our salt
because we made them. Right "under this key" is all that a verification can say then, and it says so.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from backfill.ledger import runs
from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord, Kind

RIGHT = "every hash is right"


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
        if record.confirmed_by == 0 and record.counts.get(Count.ROWS, 0):
            return f"every hash is {unconfirmed(record.evidence.key_id)}"
    return RIGHT
