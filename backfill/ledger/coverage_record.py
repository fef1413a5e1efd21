"""Coverage record: what a verification found about one table. Its field names are stable.

They are the columns of the ledger's table ``coverage``, the keys of the JSON of ``verify`` and ``report``,
and what the SQL of a gate reads, which takes each name from the ledger's table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from backfill.job_id import JobId
from backfill.ledger.counts import Count


class Kind(StrEnum):
    """What sort of table a record is about."""

    EVENTS = "events"
    ADDRESSES = "addresses"
    DISCARD = "discard"
    IN_PLACE = "in_place"  # values that are rewritten in their own column
    INTO = "into"  # hashes beside a raw column


NOTHING_TO_DO = frozenset({Kind.IN_PLACE, Kind.INTO})  # their notes say how far a proof goes


class Method(StrEnum):
    """How much of a table was read."""

    FULL = "full"  # every row
    SAMPLE = "sample"  # some blocks of the event tables; opens no gate


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoBuild:
    """Addresses looked up in one build of one geo database."""

    found: int
    absent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a gate compares with the table as it is now, and where a record came from; in no JSON."""

    other_spellings: str | None = None  # their number and checksum, as gates count them
    hash_checksum: str | None = None  # of the address table's keys and hashes, as gates make it
    snapshot: str | None = None  # from before the first look
    raw_column: str | None = None  # its numbers in the catalog, which no rename changes; none: it was gone
    shadow: Mapping[str, int] | None = None  # counts of the copy that took the table's place
    key_id: str | None = None  # of the salt that hashes were recomputed with
    verification: int | None = None
    percent: float | None = None  # of the blocks that a sample read
    geo_type: str | None = None
    geo_build: datetime | None = None
    version: str | None = None  # of Backfill


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRecord:
    """One table's coverage. ``counts`` are rows."""

    job: JobId
    table: str  # what people call it
    kind: Kind
    covered: bool
    counts: Mapping[Count, int]
    becomes: str | None = None  # in place and into: what the values become
    quarantined: Mapping[str, int] = field(default_factory=dict)  # by reason
    reasons: tuple[str, ...] = ()  # why it is not covered, each with the command that fixes it
    raw_rows: int | None = None  # rows that hold a raw value
    newest_raw: str | None = None  # newest time among them
    wrong_keys: tuple[str, ...] = ()  # row keys of some wrong links or hashes, never their values
    proved: datetime | None = None  # set when the raw column is gone: the time of the last full record before
    method: Method = Method.FULL
    notes: tuple[str, ...] = ()  # what does not uncover the table, and its owner should know
    since_run: int | None = None  # raw values written since the last run of this table ended
    confirmed_by: int | None = None  # live hashes that confirmed salt and scheme; none: not about hashes
    geo_builds: Mapping[str, GeoBuild] = field(default_factory=dict)  # by "GeoLite2-City 2026-01-02"
    evidence: Evidence = field(default_factory=Evidence)
    finished: datetime | None = None  # when it was entered


_RECORD: TypeAdapter[CoverageRecord] = TypeAdapter(CoverageRecord)
_EVIDENCE = [one.name for one in fields(Evidence)]
_OWN = [one.name for one in fields(CoverageRecord) if one.name not in ("table", "evidence")]


def as_json(record: CoverageRecord) -> dict[str, Any]:
    """What machines read of it."""
    made: dict[str, Any] = _RECORD.dump_python(record, mode="json", exclude={"evidence", "finished"})
    return made


def as_columns(record: CoverageRecord) -> dict[str, Any]:
    """Its values by the names of the ledger's columns, but for ``finished``, which the ledger's clock says."""
    made: dict[str, Any] = _RECORD.dump_python(record)
    return {name: made[name] for name in _OWN if name != "finished"} | dict(made["evidence"])


def from_columns(stored: Mapping[str, Any], table: str) -> CoverageRecord:
    """A record from the ledger's columns; a count that this version does not know is an error."""
    own = {name: stored[name] for name in _OWN}
    evidence = {name: stored[name] for name in _EVIDENCE}
    return _RECORD.validate_python({**own, "table": table, "evidence": evidence})
