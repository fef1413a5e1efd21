"""Signals: the first SIGINT, SIGTERM or SIGHUP ends any command within two seconds.

Python runs a signal handler only between two of its own instructions, and a command waits for the server
within libpq for minutes. So the signal also writes to a pipe, which a thread reads: it cancels on the server
what our sessions do there, and ends the process when that does not help. ``run`` stops at its next
checkpoint instead (``interrupt``).
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from backfill.database import open_sessions

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
END_SECONDS = 1.5  # then the process ends whatever it waits for; two are promised
AGAIN_SECONDS = 0.25  # a cancel that arrives between two statements cancels nothing
CHILD_SECONDS = 1.2
COMMITTED = "What was committed stays; the same command goes on from there."


class Ended(BaseException):
    """A signal told this command to end. No ``Exception``: nothing that tries again may catch it."""


class _State:
    """Of this process."""

    heard: int | None = None  # the signal that ends it
    deferred = False  # a run hears signals itself
    installed = False
    said = False
    default = COMMITTED
    left: list[str]  # what is left if a signal comes now, innermost last


_state = _State()
_state.left = []
_saying = threading.Lock()


def heard() -> bool:
    """Whether a signal ends this command."""
    return _state.heard is not None


def exit_code(number: int | None = None) -> int:
    """As a shell shows a process that a signal ended: 129, 130, 143."""
    return 128 + (number or _state.heard or signal.SIGINT)


@contextmanager
def leaves(text: str) -> Iterator[None]:
    """What the last line says is left, if a signal comes within the block."""
    _state.left.append(text)
    try:
        yield
    finally:
        if not heard():  # the line is written after the block was left
            _state.left.remove(text)


def leaves_by_default(text: str) -> None:
    """What the last line says where nothing nearer is known."""
    _state.default = text


def say_what_is_left() -> None:
    """The last line, once."""
    with _saying:
        if _state.said:
            return
        _state.said = True
        name = signal.Signals(_state.heard or signal.SIGINT).name
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with contextlib.suppress(OSError, ValueError):
            left = _state.left[-1] if _state.left else _state.default
            print(f"backfill: {name}: ended at once. {left}", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def deferred() -> Iterator[None]:
    """For as long as the block lasts somebody else hears signals."""
    _state.deferred = True
    try:
        yield
    finally:
        _state.deferred = False


@contextmanager
def listening() -> Iterator[None]:
    """Hear signals from now on, in the main thread's command. Within another ``listening`` nothing changes."""
    if _state.installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.installed = True
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    before_wakeup = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    before = {
        number: signal.signal(number, _raise)
        for number in ENDING
        # nohup: whoever started us does not want the end of the terminal to be ours
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    threading.Thread(target=_listen, args=(reads,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        if not heard():  # else the thread has to see to it that the process ends
            signal.set_wakeup_fd(before_wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writes)
            _state.installed = False


@contextmanager
def obeyed() -> Iterator[None]:
    """Listen, and end the process by the last line and its code when a signal has ended the block."""
    outermost = not _state.installed
    with listening():
        try:
            yield
        except (Exception, Ended):
            # Whatever a cancelled statement became on its way here: it was the signal.
            if not heard() or not outermost:
                raise
            say_what_is_left()
            sys.exit(exit_code())


def _raise(number: int, _frame: FrameType | None) -> None:
    """In the main thread, as soon as it is back from the server."""
    if _state.heard is None:
        _state.heard = number
    if not _state.said:
        raise Ended


def _listen(reads: int) -> None:
    with os.fdopen(reads, "rb", buffering=0) as pipe:
        while numbers := pipe.read(1):
            if numbers[0] in ENDING and not _state.deferred:
                if _state.heard is None:
                    _state.heard = numbers[0]
                _end(pipe.fileno())


def _end(pipe: int) -> None:
    """Cancel until the process has ended by itself; a second signal, or too long a wait, ends it here."""
    end = time.monotonic() + END_SECONDS
    while (left := end - time.monotonic()) > 0:
        open_sessions.cancel_all()
        again, _, _ = select.select([pipe], [], [], min(left, AGAIN_SECONDS))
        if again and any(number in ENDING for number in os.read(pipe, 64)):
            break
    say_what_is_left()
    os._exit(exit_code())


def call(words: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[Any]":
    """Run a program that is told of the signal that ends us, instead of being killed."""
    with subprocess.Popen(words, **options) as process:
        try:
            out, err = process.communicate()
        except Ended:
            process.send_signal(_state.heard or signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(CHILD_SECONDS)
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)
