"""Progress: bars on a terminal, plain lines elsewhere. Nothing says 100 % before a phase is done."""

import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from backfill import escaping

LINE_SECONDS = 5.0  # how often a log gets a line
MOST = 99  # percent, until it is done: the number of rows is the planner's estimate


def percent(done: float, total: float, *, finished: bool = False) -> int | None:
    """Whole percents, rounded down; 100 only of what is *finished*. None: of nothing that is known."""
    if finished:
        return 100
    return min(MOST, int(100 * done / total)) if total > 0 else None


class _Bar(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
    """A bar whose figures are the progress's own."""

    progress: "Progress"

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "share": self.progress.share, "rest": self.progress.rest}


class Progress:
    """Rows done of rows expected in one phase; *done* of them before, where a run goes on.

    The rate is that of the time in which work went on: neither pauses nor what sensors hold is in it.
    """

    def __init__(self, title: str, total: int, done: int = 0, *, quiet: bool = False) -> None:
        self.title, self.total, self.done = title, max(total, done), done
        self._before, self._finished, self._waits = done, False, False
        self._active, self._last = 0.0, time.monotonic()
        self._told = self._last
        self._quiet = quiet
        self._bar: _Bar | None = None
        if not quiet and sys.stderr.isatty():
            _Bar.progress = self
            self._bar = _Bar(
                total=self.total,
                initial=done,
                desc=f"{escaping.name(title):<10}",
                unit_scale=True,
                dynamic_ncols=True,
                file=escaping.unfiltered(sys.stderr),
                bar_format="{desc}{share} |{bar}| {n_fmt} of about {total_fmt} rows, {rest}",
            )

    @property
    def share(self) -> str:
        """In percent."""
        found = percent(self.done, self.total, finished=self._finished)
        return "   ?" if found is None else f"{found:3d} %"

    @property
    def rate(self) -> float:
        """Rows a second of work."""
        return (self.done - self._before) / self._active if self._active > 0 else 0.0

    @property
    def rest(self) -> str:
        """Rate, and what it makes of the rows that are left."""
        if self._waits:
            return "waiting"
        said = f"{self.rate:,.0f} rows/s"
        left = self.total - self.done
        if self._finished or left <= 0 or not self.rate:
            return said
        return f"{said}, {timedelta(seconds=max(1, round(left / self.rate)))} to go"

    def advance(self, rows: int) -> None:
        """*rows* more are done."""
        self._passes(waits=False)
        self.done += rows
        if self._bar is not None:
            self._bar.total = self.total = max(self.total, self.done)
            self._bar.update(rows)
        elif not self._quiet and time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self._line(f"{self.share.strip()}, {self._rows()}, {self.rest}")

    def wait(self) -> None:
        """Nothing may begin at the moment: the run is paused, or a sensor holds it."""
        self._passes(waits=True)
        if self._bar is not None:
            self._bar.refresh()

    def finish(self) -> None:
        """All of it is done, however many rows there were."""
        self._passes(waits=False)
        self._finished = True

    def _passes(self, *, waits: bool) -> None:
        now = time.monotonic()
        if not self._waits:
            self._active += now - self._last
        self._waits, self._last = waits, now

    def _rows(self) -> str:
        return f"{self.done:,} of about {self.total:,} rows"

    def _line(self, said: str) -> None:
        print(f"{self.title}: {said}", file=sys.stderr, flush=True)  # noqa: T201  # a log is where this goes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if self._finished:
                self._bar.total = self._bar.n = max(self.done, 1)  # the planner's estimate was one
            self._bar.refresh()
            self._bar.close()
        if self._quiet:
            return
        if not self._finished:
            self._line(f"stopped at {self.share.strip()} ({self._rows()})")
        elif self._bar is None and self.done > self._before:
            self._line(f"done, {self.done:,} rows, {self.rest}")
