"""Interrupts: signals are heard at once, whatever the run is doing.

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
from typing import NoReturn, TypeVar

from sqlalchemy import Engine

from backfill.database import watchdog
from backfill.database.cancellation import Statements
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.transient import TransientError, transient_error_of
from backfill.engine import signals
from backfill.engine.control import Control
from backfill.ledger.runs import Run

Result = TypeVar("Result")
POLL_SECONDS = 0.05
GRACE_SECONDS = 0.6  # then statements are cancelled; the whole is promised within two
AGAIN_SECONDS = 0.5
SILENT_SECONDS = 1.3  # then a server that takes no cancel is asked whether it is there at all
ANSWER_SECONDS = 0.4
LISTEN_SECONDS = 0.5  # between two looks for orders; two of them, and a cancel, fit into the two seconds


def interruptible(
    engine: Engine,
    control: Control,
    work: Callable[[], Result],
    tell: Callable[[str], None],
    end_at_once: Callable[[], None],
) -> Result:
    """Do *work*; SIGINT, SIGTERM and SIGHUP end it at the next checkpoint, a second one ends the process."""
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
    with statements.watched(), _signals(control, tell, end_at_once) as heard:
        worker = threading.Thread(target=thread, daemon=True)
        worker.start()
        began, due = 0.0, 0.0
        while worker.is_alive():
            worker.join(POLL_SECONDS)
            if not control.stopping:
                continue
            now = time.monotonic()
            began = began or now
            due = due or now + GRACE_SECONDS
            if now >= due and not control.ending:
                statements.cancel()
                due = now + AGAIN_SECONDS
            # Also while it writes down how it ended, which such a server does not let it do.
            if (
                heard
                and now >= began + SILENT_SECONDS
                and watchdog.is_silent(now - SILENT_SECONDS / 2, ANSWER_SECONDS)
            ):
                end_at_once()
                _end_here(
                    heard[0], "was heard, and the server does not answer, so it ended without its last note"
                )
    if failed:
        raise failed[0]
    return done[0]


Sleep = Callable[[float], None]


class _Told(Exception):
    """An order came while the work slept."""


def obedient(engine: Engine, control: Control, run: Run, work: Callable[[Sleep], Result]) -> Result:
    """Do *work(sleep)*, whose statements may last for hours, and do it again after a pause.

    An order from another shell is heard by asking the ledger; the statements are cancelled, and what
    they had done is rolled back. Raises what ``Control.checkpoint`` raises.
    """
    while True:
        control.checkpoint(run)
        told = threading.Event()

        def sleep(seconds: float, told: threading.Event = told) -> None:
            if told.wait(seconds):
                raise _Told

        with _listening(engine, control, run, told), contextlib.suppress(_Told):
            try:
                return work(sleep)
            except DRIVER_ERRORS as error:
                if not told.is_set() or transient_error_of(error) is not TransientError.STATEMENT_TIMEOUT:
                    raise


@contextmanager
def _listening(engine: Engine, control: Control, run: Run, told: threading.Event) -> Iterator[None]:
    """Ask for orders in a thread, and set *told* and cancel statements from the first one on."""
    over, statements = threading.Event(), Statements(engine)

    def listen() -> None:
        while not over.wait(LISTEN_SECONDS):
            # A look that fails is the driver's to recover from: its own statements meet the same error.
            with contextlib.suppress(*DRIVER_ERRORS):
                if told.is_set() or control.paused(run):
                    told.set()
                    statements.cancel()

    thread = threading.Thread(target=listen, daemon=True)
    with statements.watched():
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextmanager
def _signals(
    control: Control, tell: Callable[[str], None], end_at_once: Callable[[], None]
) -> Iterator[list[int]]:
    """The list of those that were heard."""
    heard: list[int] = []

    def told(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if heard:
            end_at_once()
            _end_here(number, "again: ended at once")
        heard.append(number)
        control.stop(f"{name} was received")
        tell(f"{name}: stopping at the next checkpoint; once more ends at once.")

    before = {
        number: signal.signal(number, told)
        for number in signals.ENDING
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        with signals.deferred():
            yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_here(number: int, how: str) -> NoReturn:
    """Not through the executor's own exit, which waits for its workers."""
    print(  # noqa: T201 -- nobody is left to tell it to
        f"backfill: {signal.Signals(number).name} {how}. What was committed stays; `backfill run` goes on from there.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(signals.exit_code(number))
