"""Progress: bars on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from backfill import escaping

LINE_SECONDS = 5.0  # how often a log gets a line


class Progress:
    """Rows done of rows expected in one phase; a bar with rate and ETA where somebody watches."""

    def __init__(self, title: str, total: int, *, quiet: bool = False) -> None:
        self.title, self.total, self.done = title, total, 0
        self._began = self._told = time.monotonic()
        self._quiet = quiet
        self._bar: tqdm[Any] | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = tqdm(
                total=total,
                desc=f"{escaping.name(title):<10}",
                unit=" rows",
                unit_scale=True,
                dynamic_ncols=True,
                file=escaping.unfiltered(sys.stderr),
            )

    def advance(self, rows: int) -> None:
        """*rows* more are done."""
        self.done += rows
        if self._bar is not None:
            self._bar.update(rows)
        elif not self._quiet and time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self._line()

    def _line(self) -> None:
        seconds = max(time.monotonic() - self._began, 0.001)
        rate = self.done / seconds
        left = max(self.total - self.done, 0) / rate if rate else 0.0
        print(  # noqa: T201  # a log is where this goes
            f"{self.title}: {self.done:,} of about {self.total:,} rows, {rate:,.0f} rows/s, {left:,.0f} s to go",
            file=sys.stderr,
            flush=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if kind is None:
                self._bar.total = max(self.done, 1)  # the planner's estimate was one
                self._bar.refresh()
            self._bar.close()
        elif not self._quiet and self.done:
            self._line()
