"""Pure: the numbers behind a document's pictures; a face that can draw only draws them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from backfill.job_id import JobId
from backfill.ledger.counts import CLASSES, Count
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.report.facts import Geography, RunStory

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
IN_PLACE_PARTS = {
    Count.IN_FORM: "right",
    Count.STILL_RAW: "unlinked",
    Count.FOREIGN_PREFIX: "wrong",
    Count.KEPT_UNREADABLE: "own_link_kept",
    Count.QUARANTINED: "quarantined",
    Count.NOT_DUE: "own_link_kept",
    Count.WITHOUT_TIME: "own_link_kept",
    Count.NO_ADDRESS: "none",
}
INTO_PARTS = {
    Count.RIGHT: "right",
    Count.HASH_OF_RIGHT_FORM: "settled",
    Count.OWN_HASH_KEPT: "own_link_kept",
    Count.HASH_MISSING: "unlinked",
    Count.HASH_WRONG: "wrong",
    Count.QUARANTINED: "quarantined",
    Count.NO_ADDRESS: "none",
}
ADDRESS_PARTS = {
    Count.HASH_RIGHT: "right",
    Count.HASH_OF_RIGHT_FORM: "settled",
    Count.HASH_WRONG: "wrong",
    Count.HASH_MISSING: "unlinked",
    Count.NETWORKS: "own_link_kept",
    Count.DUPLICATES: "quarantined",
}

PARTS = {Kind.ADDRESSES: ADDRESS_PARTS, Kind.IN_PLACE: IN_PLACE_PARTS, Kind.INTO: INTO_PARTS}


def coverage_bar(record: CoverageRecord) -> list[Slice]:
    """What becomes of a table's rows, as parts of 100 %."""
    painted = PARTS.get(record.kind, EVENT_PARTS)
    parts = [(kind, count.words, record.counts.get(count, 0)) for count, kind in painted.items()]
    parts = [part for part in parts if part[2]]
    total = sum(number for _, _, number in parts)
    widths = [max(LEAST, BAR * number / total) for _, _, number in parts]
    slices, start = [], 0.0
    for (kind, label, number), width in zip(parts, widths, strict=True):
        slices.append(Slice(kind, label, number, start, width * BAR / sum(widths)))
        start += slices[-1].width
    return slices


@dataclass(frozen=True)
class Bar:
    """One table's rows."""

    label: str
    rows: int
    state: str
    covered: bool
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Bars:
    """A bar for each table, and what each colour stands for."""

    name: ClassVar[str] = "bars"
    bars: tuple[Bar, ...]
    legend: tuple[tuple[str, str], ...]


def coverage_bars(records: Sequence[CoverageRecord], states: Mapping[JobId, str]) -> Bars:
    """The bars of those tables; *states*: what each is, in words."""
    return Bars(
        tuple(
            Bar(
                record.table,
                record.counts.get(Count.ROWS, 0),
                states[record.job],
                record.covered,
                tuple(coverage_bar(record)),
            )
            for record in records
        ),
        tuple((kind, count.words) for parts in _parts(records) for count, kind in parts.items()),
    )


def _parts(records: Sequence[CoverageRecord]) -> Iterator[Mapping[Count, str]]:
    """The kinds of rows that a legend has to explain."""
    kinds = {record.kind for record in records}
    if kinds - {Kind.IN_PLACE, Kind.INTO}:
        yield EVENT_PARTS
    for kind in (Kind.IN_PLACE, Kind.INTO):
        if kind in kinds:
            yield PARTS[kind]


@dataclass(frozen=True)
class Dot:
    """A cell on the map."""

    x: float
    y: float
    radius: float
    events: int


@dataclass(frozen=True)
class World:
    """A map of the world."""

    name: ClassVar[str] = "world"
    dots: tuple[Dot, ...]


def world(geography: Geography) -> World:
    """The map of the events."""
    return World(tuple(dots(geography)))


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


@dataclass(frozen=True)
class Span:
    """A phase on the time line, in seconds."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """The phases of a run, and under them the rows that it wrote over time."""

    name: ClassVar[str] = "timeline"
    seconds: float
    spans: tuple[Span, ...]
    points: str
    fastest: float


def timeline(run: RunStory) -> Timeline:
    """The time line of a run."""
    spans = tuple(Span(phase.name, phase.start, phase.end) for phase in run.phases)
    return Timeline(run.seconds, spans, pace_line(run), fastest(run))


Drawing: TypeAlias = Bars | Timeline | World


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
