"""Pure: the numbers behind the report's pictures; the template only draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from backfill.ledger.counts import CLASSES, Count
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.report.document import Geography, Quarantined, RunStory

MAP_WIDTH, MAP_HEIGHT = 720, 300  # 2 px a degree from 80° north to 70° south: nobody lives beyond
NORTH = 80
BAR = 100.0
LEAST = 0.7  # percent of a bar: one wrong row of a million has to be seen
PACE_WIDTH, PACE_HEIGHT = 720, 90


@dataclass(frozen=True)
class Slice:
    """A part of a coverage bar."""

    kind: str  # a class of the style sheet
    label: str
    number: int
    start: float  # percent
    width: float


# Parts of a bar, and the class of the style sheet that paints each.
EVENT_PARTS = {**{count: count.value for count in CLASSES}, Count.NO_ADDRESS: "none"}
ADDRESS_PARTS = {
    Count.HASH_RIGHT: "right",
    Count.HASH_OF_RIGHT_FORM: "settled",
    Count.HASH_WRONG: "wrong",
    Count.HASH_MISSING: "unlinked",
    Count.NETWORKS: "own_link_kept",
    Count.DUPLICATES: "quarantined",
}


def coverage_bar(record: CoverageRecord) -> list[Slice]:
    """What becomes of a table's rows, as parts of 100 %."""
    painted = ADDRESS_PARTS if record.kind is Kind.ADDRESSES else EVENT_PARTS
    parts = [(kind, count.words, record.counts.get(count, 0)) for count, kind in painted.items()]
    parts = [part for part in parts if part[2]]
    total = sum(number for _, _, number in parts)
    widths = [max(LEAST, BAR * number / total) for _, _, number in parts]
    slices, start = [], 0.0
    for (kind, label, number), width in zip(parts, widths, strict=True):
        slices.append(Slice(kind, label, number, start, width * BAR / sum(widths)))
        start += slices[-1].width
    return slices


def reasons(records: Sequence[CoverageRecord]) -> list[str]:
    """Reasons of all quarantines, the most frequent first."""
    found = {reason for record in records for reason in record.quarantined}
    return sorted(found, key=lambda reason: (-total(records, reason), reason))


def total(records: Sequence[CoverageRecord], reason: str) -> int:
    """Rows in all quarantines for that reason."""
    return sum(record.quarantined.get(reason, 0) for record in records)


def tables(quarantine: Sequence[Quarantined]) -> list[str]:
    """Tables of which rows were put aside."""
    return list(dict.fromkeys(one.table for one in quarantine))


def by_reason(quarantine: Sequence[Quarantined]) -> list[tuple[str, list[Quarantined | None]]]:
    """A line for each reason, with an entry or none for each of ``tables``."""
    found = {(one.reason, one.table): one for one in quarantine}
    reasons = sorted({one.reason for one in quarantine})
    return [(reason, [found.get((reason, table)) for table in tables(quarantine)]) for reason in reasons]


@dataclass(frozen=True)
class Dot:
    """A cell on the map."""

    x: float
    y: float
    radius: float
    events: int


def dots(geography: Geography) -> list[Dot]:
    """Circles whose area grows with the logarithm of the events: the busiest cell has thousands of times the least."""
    most = max((place.events for place in geography.places), default=1)
    found = []
    for place in geography.places:
        share = math.log1p(place.events) / math.log1p(most)
        found.append(
            Dot(
                x=(place.longitude + 2.5 + 180) * MAP_WIDTH / 360,
                y=(NORTH - place.latitude - 2.5) * MAP_WIDTH / 360,
                radius=round(1.2 + 4.3 * share, 2),
                events=place.events,
            )
        )
    return found


def country_bars(geography: Geography, shown: int = 12) -> list[tuple[str, int, float]]:
    """Name, events and percent of the longest bar; the last one stands for all others."""
    first = list(geography.countries[:shown])
    rest = sum(number for _, number in geography.countries[shown:])
    if rest:
        first.append((f"{len(geography.countries) - shown} others", rest))
    most = max((number for _, number in first), default=1)
    return [(name, number, BAR * number / most) for name, number in first]


def pace_line(story: RunStory) -> str:
    """The ``points`` of an area under the rows written a slice."""
    return _area([number for _, number in story.pace])


def _area(values: Sequence[int]) -> str:
    if len(values) < 2:
        return ""
    most = max(values) or 1
    step = PACE_WIDTH / (len(values) - 1)
    points = [
        f"{number * step:.1f},{PACE_HEIGHT - PACE_HEIGHT * value / most:.1f}"
        for number, value in enumerate(values)
    ]
    return " ".join([f"0,{PACE_HEIGHT}", *points, f"{PACE_WIDTH},{PACE_HEIGHT}"])


def fastest(story: RunStory) -> float:
    """Rows a second in the fastest slice."""
    if len(story.pace) < 2:
        return 0.0
    width = story.pace[1][0] - story.pace[0][0]
    return max(number for _, number in story.pace) / width if width else 0.0
