"""Records: what a verification found about one table, and whether that opens a gate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from backfill.identity import JobId

FULL, SAMPLE = "full", "sample"
FORM = "hash of the right form"  # a count of the address table: without addresses no hash can be recomputed


class Kind(StrEnum):
    """What sort of table a record is about."""

    EVENTS = "events"
    ADDRESSES = "addresses"
    DISCARD = "discard"


@dataclass(frozen=True)
class Record:
    """One table's proof, or the lack of it. ``counts`` are rows; the names are those of the documents."""

    job: JobId
    table: str  # what people call it
    kind: Kind
    covered: bool
    counts: Mapping[str, int]
    reasons: tuple[str, ...]  # why it is not covered, each with the command that mends it
    raw_rows: int | None = None  # rows that hold a raw value
    newest_raw: str | None = None  # newest time among them
    quarantined: Mapping[str, int] = field(default_factory=dict)  # by reason
    wrong_keys: tuple[str, ...] = ()  # row keys of some wrong links, never their values
    proved: datetime | None = None  # set when the raw column is gone: the day of the last full proof
    method: str = FULL
    notes: tuple[str, ...] = ()  # what does not uncover the table, and its owner should know
    since_run: int | None = None  # raw values written since the last run of this table ended
    builds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # geo lookups by database build
    finished: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)  # provenance, as the ledger keeps it


def shortfall(number: int, what: str, mend: str) -> list[str]:
    """A reason, or none for zero rows."""
    return [f"{number:,} {what}: {mend}"] if number else []
