"""Interrupt: signals are heard at once, whatever the run is doing.

psycopg2 waits inside libpq, where Python hears no signal. So the work goes on in a thread of its
own while the main thread listens; a statement that lasts too long after the signal is cancelled.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import psycopg2
from sqlalchemy import Engine, event

from backfill.control import Control

Result = TypeVar("Result")
POLL_SECONDS = 0.05
GRACE_SECONDS = 0.6  # then statements are cancelled; the whole is promised within two
AGAIN_SECONDS = 0.5


class Statements:
    """The sessions in use, so that what they do can be cancelled."""

    def __init__(self, engine: Engine) -> None:
        self._sessions: set[Any] = set()
        self._lock = threading.Lock()
        self._engine = engine

    def _out(self, session: Any, _record: Any, _proxy: Any) -> None:
        with self._lock:
            self._sessions.add(session)

    def _in(self, session: Any, _record: Any) -> None:
        with self._lock:
            self._sessions.discard(session)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep the list for as long as the block lasts."""
        event.listen(self._engine, "checkout", self._out)
        event.listen(self._engine, "checkin", self._in)
        try:
            yield
        finally:
            event.remove(self._engine, "checkout", self._out)
            event.remove(self._engine, "checkin", self._in)

    def cancel(self) -> None:
        """Cancel what runs now; a session that does nothing takes no notice."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            with contextlib.suppress(psycopg2.Error):
                session.cancel()


def interruptible(
    engine: Engine,
    control: Control,
    work: Callable[[], Result],
    tell: Callable[[str], None],
    end_at_once: Callable[[], None],
) -> Result:
    """Do *work*; SIGINT and SIGTERM end it at the next checkpoint, a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    done: list[Result] = []
    failed: list[BaseException] = []

    def thread() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    statements = Statements(engine)
    with statements.watched(), _signals(control, tell, end_at_once):
        worker = threading.Thread(target=thread, daemon=True)
        worker.start()
        due: float | None = None
        while worker.is_alive():
            worker.join(POLL_SECONDS)
            if control.stopping and not control.ending:
                due = due or time.monotonic() + GRACE_SECONDS
                if time.monotonic() >= due:
                    statements.cancel()
                    due = time.monotonic() + AGAIN_SECONDS
    if failed:
        raise failed[0]
    return done[0]


@contextmanager
def _signals(
    control: Control, tell: Callable[[str], None], end_at_once: Callable[[], None]
) -> Iterator[None]:
    heard: list[int] = []

    def told(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if heard:
            end_at_once()
            print(  # noqa: T201 -- nobody is left to tell it to
                f"backfill: {name} again: ended at once. What was committed stays; `backfill run` goes on from there.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(130)  # not through the executor's own exit, which waits for its workers
        heard.append(number)
        control.stop(f"{name} was received")
        tell(f"{name}: stopping at the next checkpoint; once more ends at once.")

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
