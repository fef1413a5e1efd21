"""Records: what a verification found about one table, and whether that opens a gate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What sort of table a record is about."""

    EVENTS = "events"
    ADDRESSES = "addresses"
    DISCARD = "discard"


@dataclass(frozen=True)
class Record:
    """One table's proof, or the lack of it. ``counts`` are rows; the names are those of the documents."""

    table: str
    kind: Kind
    covered: bool
    counts: Mapping[str, int]
    reasons: tuple[str, ...]  # why it is not covered, each with the command that mends it
    raw_rows: int | None = None  # rows that hold a raw value
    newest_raw: str | None = None  # newest time among them
    quarantined: Mapping[str, int] = field(default_factory=dict)  # by reason
    wrong_keys: tuple[str, ...] = ()  # row keys of some wrong links, never their values
    proved: datetime | None = None  # set when the raw column is gone: the day of the last full proof


def shortfall(number: int, what: str, mend: str) -> list[str]:
    """A reason, or none for zero rows."""
    return [f"{number:,} {what}: {mend}"] if number else []
