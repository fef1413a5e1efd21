"""Control: whether a run goes on, waits or ends; asked between any two batches.

Four voices say so: signals, the clock (``--max-runtime``, ``--until``), the operator in another
shell (the run's status in the ledger), and the sensors (``throttled``). The reason is kept, so that
nobody has to ask why it stopped.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Engine

from backfill.errors import RunTakenOver
from backfill.ledger import runs
from backfill.ledger.claims import Stopped
from backfill.ledger.run_lock import RunLock
from backfill.ledger.run_state import RunState
from backfill.ledger.runs import Run

POLL_SECONDS = 0.2


class Cancel(Exception):
    """The run is to end for good."""


class LockLost(Exception):
    """The session that throttled the run's lock is gone."""


@dataclass(frozen=True)
class Deadline:
    """When to stop by ourselves: *after* seconds of running, or at the wall-clock moment *until*."""

    after: float | None = None
    until: datetime | None = None
    began: float = field(default_factory=time.monotonic)

    def passed(self) -> str | None:
        """The reason, once it is time."""
        # A step of the wall clock must not end a run that was given hours; one given a time of day follows it.
        if self.after is not None and time.monotonic() - self.began >= self.after:
            return f"the {timedelta(seconds=round(self.after))} of --max-runtime are over"
        if self.until is not None and datetime.now().astimezone() >= self.until:
            return f"it is {self.until:%H:%M}, the time of --until"
        return None


class Control:
    """One run's, for its driver."""

    def __init__(
        self,
        engine: Engine,
        lock: RunLock,
        deadline: Deadline,
        observe: Callable[[str], None] = lambda event: None,
    ) -> None:
        self._engine, self._lock, self._deadline, self._observe = engine, lock, deadline, observe
        self._told = threading.Event()
        self.reason = ""
        self.ending = False  # the driver has noticed, and is writing it down

    @property
    def stopping(self) -> bool:
        """Whether somebody told us to stop."""
        return self._told.is_set()

    def stop(self, reason: str) -> None:
        """Tell the driver to stop; the first reason stands."""
        if not self._told.is_set():
            self.reason = reason
            self._told.set()

    def sleep(self, seconds: float) -> None:
        """Wait, unless told to stop meanwhile: raises ``Stopped`` then."""
        if self._told.wait(seconds):
            raise Stopped(self.reason)

    def look(self, run: Run) -> Run:
        """How the run stands now. Raises ``Stopped``, ``Cancel``, ``LockLost``, ``RunTakenOver``."""
        passed = self._deadline.passed()
        if passed:
            self.stop(passed)
        if self.stopping:
            raise Stopped(self.reason)
        if self._lock.lost.is_set():
            raise LockLost
        with self._engine.begin() as connection:
            now = runs.get(connection, run.id)
        if (now.holder, now.attempts) != (run.holder, run.attempts):
            raise RunTakenOver(run=run.id, holder=now.holder)
        if now.status in {RunState.CANCELLING, RunState.CANCELLED}:
            raise Cancel
        return now

    def waits(self, run: Run) -> bool:
        """Whether nothing new may begin at this moment; the same exceptions as ``look``."""
        now = self.look(run)
        return now.status is not RunState.RUNNING or now.throttled is not None

    def paused(self, run: Run) -> bool:
        """Whether workers are to leave: told to stop by anybody; raises nothing."""
        try:
            return self.look(run).status is not RunState.RUNNING
        except (Stopped, Cancel, LockLost, RunTakenOver):
            return True

    def checkpoint(self, run: Run, waiting: Callable[[], None] = lambda: None) -> None:
        """Return when the run may go on; what takes long here is written in its status. *waiting* is called meanwhile."""
        while True:
            now = self.look(run)
            if now.status is RunState.PAUSING:
                with self._engine.begin() as connection:
                    runs.move(connection, run.id, RunState.PAUSED)
                self._observe("paused")
                continue
            if now.status is RunState.RUNNING and now.throttled is None:
                return
            waiting()
            self.sleep(POLL_SECONDS)


def until(text: str, now: datetime | None = None) -> datetime:
    """The next moment at which the clock shows *text* ("06:00"). Raises ``ValueError``."""
    now = now or datetime.now().astimezone()
    clock = datetime.strptime(text, "%H:%M")  # noqa: DTZ007 -- a time of day, the zone is the operator's
    moment = now.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return moment if moment > now else moment + timedelta(days=1)


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """ "90s", "30m", "4h", "1h30m" in seconds. Raises ``ValueError``."""
    total, number = 0.0, ""
    for letter in text.strip().lower():
        if letter in UNITS and number:
            total += float(number) * UNITS[letter]
            number = ""
        else:
            number += letter
    if number or total <= 0:
        raise ValueError(f"{text!r} is no duration such as 90s, 30m, 4h or 1h30m")
    return total
