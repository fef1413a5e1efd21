"""Pure: from a sample of a table to what each strategy would cost, and which one to take."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backfill.engine.estimate.sample import Sample

IN_PLACE, SHADOW = "in-place", "shadow"

# What a miniature does not have, measured against runs of 50,000 to 500,000 events on one machine: a
# temporary table writes no WAL, has no other user of its buffers, and no checkpoint behind it.
LOGGED = 1.4
SECOND_WORKER = 0.6  # what each further worker adds to the first: server and client share the cores
# The sample judges every row by name; a run tells nearly all by one look, their texts read ahead.
LOOKED = 0.5
START_SECONDS = 1.5  # workers, ledger, the last sweep
SCANS_IN_PLACE, SCANS_SHADOW = (
    3,
    1,
)  # resolve, sweep and closing count read the table; the copy's reading is in its time

# Bytes of WAL: the header of a record with its tuple's, an index entry with its record, an address with
# its hash, geo, lookup and all their index entries.
RECORD, ENTRY, ADDRESS = 70, 90, 1_000

LOCK_IN_PLACE = 0.0  # rows alone, and those for one transaction
SWAP_SECONDS = 0.1  # measured 20-50 ms under the lock, when it is granted

WORTH = 0.75  # a copy must save a quarter of the time, or…
BLOATED = 1.3  # … a table that would be this much larger than its rows
SMALL_SECONDS = 60.0  # below, nobody needs a window


@dataclass(frozen=True)
class Size:
    """A table as it stands."""

    heap: int  # bytes, TOAST included
    indexes: int  # bytes
    index_count: int
    rows: int
    texts: int  # distinct ones, by the planner's statistics; 0: unknown


@dataclass(frozen=True)
class Cost:
    """Of one strategy for one table. Seconds and bytes."""

    seconds: float
    lock: float  # longest wait of a writer
    transaction: float  # longest of ours
    disk: int  # taken beyond today, at its highest
    wal: int
    bloat: float  # heap afterwards over the same rows written anew
    growth: int  # of table and indexes afterwards; a copy's before the old table is dropped


@dataclass(frozen=True)
class Terms:
    """What the operator has set."""

    workers: int
    target_seconds: float
    lock_seconds: float


def in_place(sample: Sample, size: Size, terms: Terms) -> Cost:
    """What a run in place would cost for that table."""
    scale = 1 / sample.share
    texts = _texts(sample, size)
    resolve = _resolve(sample, texts)
    link = sample.link * scale * LOGGED / _speed(terms.workers)
    scans = sample.read * scale * SCANS_IN_PLACE
    grown = max(0, sample.heap_in_place - sample.heap) / max(1, sample.heap) * size.heap
    grown_indexes = max(0, sample.indexes_in_place - sample.indexes) / max(1, sample.indexes) * size.indexes
    written = sample.written * scale
    row = sample.heap_fresh / max(1, sample.rows)
    # Each old page once as a whole, each new version, and index entries for those that left their page.
    moved = min(written, grown_indexes / 40 + written * min(1.0, grown / max(1.0, written * row)))
    wal = size.heap + written * (row + RECORD) + moved * size.index_count * ENTRY + size.indexes
    return Cost(
        seconds=resolve + link + scans,
        lock=terms.target_seconds,
        transaction=terms.target_seconds,
        disk=int(grown + grown_indexes),
        wal=int(wal + texts * ADDRESS * sample.keeps_addresses),
        bloat=max(1.0, sample.heap_in_place / max(1, sample.heap_fresh)),
        growth=int(grown + grown_indexes),
    )


def shadow(sample: Sample, size: Size, terms: Terms) -> Cost:
    """What a shadow copy would cost for that table."""
    scale = 1 / sample.share
    texts = _texts(sample, size)
    copy = sample.copy * scale * LOGGED / _speed(terms.workers)
    rest = (sample.index * LOGGED + sample.compare * LOOKED) * scale
    scans = sample.read * scale * SCANS_SHADOW
    heap = sample.heap_copy * scale
    # The bulk-built index of a small sample is mostly its first pages; today's is the better guess.
    indexes = size.indexes
    wal = heap + sample.rows * scale * RECORD * 0.5 + indexes + texts * ADDRESS
    return Cost(
        seconds=_resolve(sample, texts) + copy + rest + scans,
        lock=terms.lock_seconds + SWAP_SECONDS,
        transaction=max(terms.target_seconds, sample.index * scale * LOGGED),
        disk=int(heap + indexes + wal),
        wal=int(wal),
        bloat=1.0,
        growth=int(heap + indexes),
    )


def _texts(sample: Sample, size: Size) -> int:
    """How many distinct texts there are: by statistics, within what the sample allows."""
    most = round(sample.texts / sample.share)
    return max(sample.texts, min(most, size.texts) if size.texts else most)


def _resolve(sample: Sample, texts: int) -> float:
    return sample.resolve * texts / max(1, sample.texts) * LOGGED


def _speed(workers: int) -> float:
    return 1 + SECOND_WORKER * (workers - 1)


@dataclass(frozen=True)
class Advice:
    """Which strategy, and why."""

    strategy: str
    reason: str


def advise(place: Cost, copy: Cost | None, refusals: Sequence[str], free: int | None) -> Advice:
    """For one table. *copy*: None where there can be none. *free*: bytes of disk, where the server let us look."""
    if refusals or copy is None:
        return Advice(IN_PLACE, f"it cannot be copied: {', '.join(refusals[:1])}")
    if free is not None and copy.disk > free:
        return Advice(IN_PLACE, "there is no room for a copy")
    saved = 1 - copy.seconds / max(place.seconds, 0.001)
    if place.seconds < SMALL_SECONDS and place.bloat < BLOATED:
        return Advice(IN_PLACE, "it is done within a minute, without a lock on the table")
    if copy.seconds < place.seconds * WORTH:
        return Advice(SHADOW, f"it saves {saved:.0%} of the time, and leaves no raw address in the new file")
    if place.bloat >= BLOATED:
        return Advice(SHADOW, f"in place would leave the table {place.bloat:.1f} times as large as its rows")
    return Advice(IN_PLACE, "a copy would save too little for its disk and its lock")


def total(costs: Iterable[Cost]) -> Cost:
    """Of all tables, one after the other, with the start of the command."""
    found = list(costs)
    return Cost(
        seconds=START_SECONDS + sum(one.seconds for one in found),
        lock=max((one.lock for one in found), default=0.0),
        transaction=max((one.transaction for one in found), default=0.0),
        disk=sum(one.disk for one in found),
        wal=sum(one.wal for one in found),
        bloat=max((one.bloat for one in found), default=1.0),
        growth=sum(one.growth for one in found),
    )
