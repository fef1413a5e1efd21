"""Report: what was measured, on what, as Markdown tables; from records of this sitting or from files."""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from statistics import median

from tabulate import tabulate

from benchmarks.contenders import BASELINE, FLOOR
from benchmarks.ground import Ground
from benchmarks.record import Record

MB = 1024 * 1024
HEADER = [
    "contender",
    "seconds, median (range)",
    "rows/s",
    f"speed, {BASELINE} = 1",
    "CPU s",
    "WAL MB",
    "tables MB",
    "indexes MB",
    "tables / fresh",
    "longest transaction s",
    "writer blocked s",
    "client MB",
    "raw texts left",
]


def about(ground: Ground) -> str:
    """When, where and on what."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    settings = ", ".join(f"{name} {value}" for name, value in ground.settings().items())
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {pages / MB / 1024:.0f} GB, "
        f"load {os.getloadavg()[0]:.1f}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}; {settings}. "
        f"{ground.made.events:,} events, {ground.made.distinct:,} distinct addresses."
    )


def by_contender(records: Iterable[Record]) -> dict[str, list[Record]]:
    """In the order in which each first came."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.contender, []).append(record)
    return found


def ratios(
    records: Sequence[Record],
    everything: Sequence[Record],
    name: str,
    ratio: Callable[[Record, Record], float],
) -> list[float]:
    """``ratio(record, that of *name* in the same round)``, where there is one."""
    peers = {(one.sitting, one.round): one for one in everything if one.contender == name}
    return [
        ratio(record, peers[record.sitting, record.round])
        for record in records
        if (record.sitting, record.round) in peers
    ]


def _speed(record: Record, base: Record) -> float:
    return base.whole_seconds / record.whole_seconds


def table(records: Sequence[Record]) -> str:
    """A line a contender. Ratios are taken within each round, since the machine changes meanwhile."""
    body = [_line(name, found, records) for name, found in by_contender(records).items()]
    return tabulate(body, HEADER, tablefmt="github", disable_numparse=True)


def _line(name: str, found: Sequence[Record], records: Sequence[Record]) -> list[str]:
    first = found[0]
    sampled, floor = first.sampled, name == FLOOR
    speed = [] if floor else ratios(found, records, BASELINE, _speed)
    return [
        name,
        _spread([one.whole_seconds for one in found], "{:.1f}") + (" (extrapolated)" if sampled else ""),
        "" if floor else f"{median(one.rate for one in found):,.0f}",
        _spread(speed, "{:.3g}"),
        "" if sampled else f"{median(one.cpu_seconds for one in found):.1f}",
        "" if sampled else f"{median(one.wal_bytes for one in found) / MB:,.0f}",
        "" if sampled else f"{median(one.table_bytes for one in found) / MB:,.0f}",
        "" if sampled else f"{median(one.index_bytes for one in found) / MB:,.0f}",
        _spread([one.table_bytes / one.fresh_bytes for one in found if one.fresh_bytes], "{:.2f}"),
        _most([one.longest for one in found], "{:.2f}"),
        _most([one.blocked for one in found], "{:.2f}"),
        _most([one.pss_bytes and one.pss_bytes / MB for one in found], "{:.0f}"),
        _most([one.raw_left for one in found], "{:,}"),
    ]


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    middle = form.format(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))}–{form.format(max(values))})"


def _most(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(max(known)) if known else ""


def aims(records: Sequence[Record]) -> str:
    """The ratios that are no column, a line each."""
    lines = []
    loops = [record.contender for record in records if record.sampled]
    for name, found in by_contender(record for record in records if not record.sampled).items():
        if name.startswith("shadow copy"):
            times = ratios(
                found, records, FLOOR, lambda one, floor: (one.seconds - one.parts["resolve"]) / floor.seconds
            )
            if times:
                lines.append(f"{name}, resolve not counted: {_spread(times, '{:.2f}')} times {FLOOR}.")
        if loops and name != FLOOR:
            faster = _spread(ratios(found, records, loops[0], _speed), "{:.0f}")
            lines.append(f"{name}: {faster} times the speed of {loops[0]}.")
    blocked = [one for one in records if one.write_errors]
    lines += [f"The live writer beside {one.contender} met {', '.join(one.write_errors)}." for one in blocked]
    return "\n".join(lines)


def parts(records: Sequence[Record]) -> str:
    """Seconds by part, of the last round of each contender that has parts."""
    latest = {record.contender: record.parts for record in records if record.parts}
    return "\n".join(
        f"{name}: " + ", ".join(f"{part} {seconds:.1f} s" for part, seconds in found.items())
        for name, found in latest.items()
    )


def same_rows(records: Sequence[Record]) -> str:
    """Whether all complete contenders left the same rows."""
    complete = [record for record in records if record.content]
    if len({record.content for record in complete}) > 1:
        found = "\n".join(f"{record.contender}: {record.content}" for record in complete)
        return f"THE ROWS DIFFER: what was compared is not the same work.\n{found}"
    return "All complete contenders left the same rows." if complete else "No complete contender ran."


GROWTH_HEADER = ["events", "distinct addresses", "contender", *HEADER[1:3], "client MB", *HEADER[8:11]]


def growth(records: Sequence[Record]) -> str:
    """A line a size and contender."""
    groups: dict[tuple[int, int, str], list[Record]] = {}
    for record in sorted(records, key=lambda one: (one.events, one.distinct)):
        groups.setdefault((record.events, record.distinct, record.contender), []).append(record)
    body = []
    for (events, distinct, name), found in groups.items():
        line = _line(name, found, records)
        body.append([f"{events:,}", f"{distinct:,}", name, line[1], line[2], line[11], *line[8:11]])
    return tabulate(body, GROWTH_HEADER, tablefmt="github", disable_numparse=True)
