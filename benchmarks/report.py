"""Report: what was measured, on what, as Markdown tables."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from tabulate import tabulate

from benchmarks.ground import Ground
from benchmarks.measure import Measurement
from benchmarks.memory import Peak
from benchmarks.single_update import SingleUpdate

MB = 1024 * 1024
HEADER = [
    "contender",
    "seconds, median (range)",
    "rows linked/s",
    "ratio, median (range)",
    "CPU s",
    "WAL MB",
    "heap after / before",
    "longest transaction s",
]


def about(ground: Ground) -> str:
    """When, where and on what."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    settings = ", ".join(f"{name} {value}" for name, value in ground.settings().items())
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {pages / MB / 1024:.0f} GB, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}; {settings}. "
        f"{ground.made.events:,} events, {ground.made.distinct:,} distinct addresses."
    )


def table(runs: Sequence[Measurement]) -> str:
    """A line a contender. Ratios are taken within each round, since the machine changes meanwhile."""
    by_name: dict[str, list[Measurement]] = {}
    for run in runs:
        by_name.setdefault(run.contender, []).append(run)
    baseline = [run.rate for run in by_name.get(SingleUpdate().name, [])]
    body = []
    for name, measured in by_name.items():
        body.append(_line(name, measured, [run.work.seconds for run in measured], baseline))
        if "update" in measured[0].work.parts:
            seconds = [run.work.parts["update"] for run in measured]
            body.append(
                _line(f"{name}, the map being there already", measured, seconds, baseline, partial=True)
            )
    return tabulate(body, HEADER, tablefmt="github", disable_numparse=True)


def _line(
    name: str,
    measured: Sequence[Measurement],
    seconds: Sequence[float],
    baseline: Sequence[float],
    *,
    partial: bool = False,
) -> list[str]:
    rates = [run.linked / spent for run, spent in zip(measured, seconds, strict=True)]
    ratios = [rate / other for rate, other in zip(rates, baseline, strict=False)]
    longest = [run.work.longest for run in measured if run.work.longest is not None]
    sampled = measured[0].work.sampled
    return [
        name,
        f"{median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f})",
        f"{median(rates):,.0f}" + (" (extrapolated)" if sampled else ""),
        f"{median(ratios):.3g} ({min(ratios):.3g}–{max(ratios):.3g})" if ratios else "",
        "" if partial or sampled else f"{median(run.cpu_seconds for run in measured):.1f}",
        "" if sampled else f"{median(run.wal_bytes for run in measured) / MB:,.0f}",
        "" if sampled else f"{median(run.heap_after / run.heap_before for run in measured):.2f}",
        f"{max(longest):.2f}" if longest else "",
    ]


def parts(runs: Sequence[Measurement]) -> str:
    """Seconds by part, of the last run of each contender that has parts."""
    latest = {run.contender: run.work.parts for run in runs if run.work.parts}
    return "\n".join(
        f"{name}: " + ", ".join(f"{part} {seconds:.1f} s" for part, seconds in found.items())
        for name, found in latest.items()
    )


def same_rows(runs: Sequence[Measurement]) -> str:
    """Whether all complete contenders left the same rows."""
    complete = [run for run in runs if run.content]
    if len({run.content for run in complete}) > 1:
        found = "\n".join(f"{run.contender}: {run.content}" for run in complete)
        return f"THE ROWS DIFFER: what was compared is not the same work.\n{found}"
    return "All complete contenders left the same rows." if complete else "No complete contender ran."


def memory(peak: Peak) -> str:
    """One line."""
    return (
        f"backfill run, two workers: at most {peak.pss_bytes / MB:,.0f} MB (sum of PSS over {peak.processes} "
        f"processes, {peak.samples} samples) in {peak.seconds:.0f} s."
    )
