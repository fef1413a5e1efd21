"""Picture: bars for contenders, lines for the series; the numbers here, the drawing in the template."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks import report
from benchmarks.contenders import BASELINE, FLOOR
from benchmarks.record import Record

FOLDER = Path(__file__).resolve().parent
TARGET = FOLDER.parent / "docs" / "benchmarks.svg"
BAR_WIDTH, BAR_STEP = 330.0, 30
WIDTH, HEIGHT = 300.0, 150.0  # of one series
TOP = 1.08  # room above the highest point


@dataclass(frozen=True)
class Bar:
    """A contender; lengths in pixels."""

    name: str
    kind: str  # ours, other, floor: a class of the style
    length: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Line:
    """A contender over a series."""

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """One series: x by the logarithm of the size, y by rows a second from nought."""

    title: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    most: str


def kind_of(name: str) -> str:
    """What is ours, what is not, and what does nothing."""
    if name == FLOOR:
        return "floor"
    if name.startswith("shadow"):
        return "shadow"
    return "place" if name.startswith("in place") else "other"


def bars(records: Sequence[Record]) -> list[Bar]:
    """Of the largest sitting of contenders, in the order in which they ran; samples have no bar of their size."""
    compared = [one for one in records if one.series == "contenders"]
    if not compared:
        return []
    largest = max(compared, key=lambda one: (one.events, one.sitting)).sitting
    found = [one for one in compared if one.sitting == largest and not one.sampled]
    longest = max((one.seconds for one in found), default=1.0)
    drawn = []
    for name, group in report.by_contender(found).items():
        seconds = [one.seconds for one in group]
        speed = report.ratios(group, found, BASELINE, lambda one, base: base.seconds / one.seconds)
        times = f", {median(speed):.1f}×" if speed and name not in (BASELINE, FLOOR) else ""
        low, middle, high = (BAR_WIDTH * value / longest for value in (min(seconds), median(seconds), max(seconds)))  # fmt: skip
        drawn.append(Bar(name, kind_of(name), middle, low, high, f"{median(seconds):.1f} s{times}"))
    return drawn


def chart(records: Sequence[Record], series: str, title: str) -> Chart | None:
    """Rows a second over the sizes of that series; none where nothing was measured."""
    found = [one for one in records if one.series == series]
    if not found:
        return None

    def size(one: Record) -> int:
        return one.events if series == "growth" else one.distinct

    sizes = sorted({size(one) for one in found})
    span = math.log(sizes[-1] / sizes[0]) or 1.0
    most = TOP * max(one.rate for one in found)

    def x(number: int) -> float:
        return WIDTH * math.log(number / sizes[0]) / span

    lines = []
    for name, group in report.by_contender(found).items():
        rates = {number: [one.rate for one in group if size(one) == number] for number in sizes}
        known = [(number, median(values)) for number, values in rates.items() if values]
        points = tuple((x(number), HEIGHT - HEIGHT * rate / most) for number, rate in known)
        lines.append(Line(name, kind_of(name), points, tuple(f"{rate / 1000:,.0f}k" for _, rate in known)))
    ticks = tuple((x(number), short(number)) for number in sizes)
    return Chart(title, tuple(lines), ticks, f"{most / 1000:,.0f}k rows/s")


def short(number: int) -> str:
    """Two digits and a unit."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size * 0.95:
            return f"{round(number / size, 0 if number >= 10 * size else 1):g}{unit}"
    return str(number)


def draw(records: Sequence[Record], target: Path = TARGET) -> Path:
    """Write the picture."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    charts = [
        chart(records, "growth", "Rows/s by events, a tenth as many addresses"),
        chart(records, "distinct", "Rows/s by distinct addresses"),
    ]
    compared = [one for one in records if one.series == "contenders"]
    events = max((one.events for one in compared), default=0)
    drawn = environment.get_template("picture.svg.j2").render(
        bars=bars(records),
        step=BAR_STEP,
        events=f"{events:,}",
        charts=[one for one in charts if one],
        width=WIDTH,
        height=HEIGHT,
    )
    target.write_text(drawn, encoding="utf-8")
    return target
