"""Whether a hash that the live application stored has confirmed salt and formula.

Where none was stored when the first run began, every hash there is may be ours: they agree with our salt
because we made them. Right "under this key" is all that a verification can say then, and it says so.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from backfill.coverage.record import FORM, Record
from backfill.ledger import runs

DETAIL = "confirmed"  # of the address table's record
KEY_ID, LIVE_HASHES = "key id", "live hashes"
RIGHT = "every hash is right"


def with_confirmation(connection: Connection, record: Record, key_id: str, scheme: str) -> Record:
    """The address table's *record* with how many live hashes confirmed it; with a note where none did."""
    live = runs.confirmed(connection, key_id, scheme, explained(record))
    detail = dict(record.detail) | {DETAIL: {KEY_ID: key_id, LIVE_HASHES: live}}
    if live or not record.counts.get("rows", 0):
        return replace(record, detail=detail)
    note = f"its hashes are {unconfirmed(key_id)}: none was stored when the first run began"
    return replace(record, detail=detail, notes=(*record.notes, note))


def explained(record: Record) -> int:
    """Hashes that agree; once the addresses are gone, those that look as if they did."""
    return record.counts.get("hash right", record.counts.get(FORM, 0))


def form_only(records: Sequence[Record]) -> bool:
    """Whether no hash could be recomputed, since the addresses are gone."""
    return any(FORM in record.counts for record in records)


def unconfirmed(key_id: str) -> str:
    """What is known of hashes that no live one confirms."""
    return f"right under key id {key_id}, not confirmed by a live hash"


def confirmed_by(record: Record) -> int | None:
    """The number of live hashes that confirmed this record; None where it is not about hashes."""
    found = record.detail.get(DETAIL)
    return None if found is None else int(found[LIVE_HASHES])


def claim(records: Sequence[Record]) -> str:
    """What may be said of the hashes of a covered database."""
    for record in records:
        if confirmed_by(record) == 0 and record.counts.get("rows", 0):
            return f"every hash is {unconfirmed(record.detail[DETAIL][KEY_ID])}"
    return RIGHT
