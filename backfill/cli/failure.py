"""Failure: what is said of an error that nobody expected; its kind and place, and no value.

The message of somebody else's exception may hold whatever was at hand: a row's text, a statement, a
password. So it is not shown, not even for ``--debug``, which adds files, lines and functions.
"""

import os
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import click

PACKAGE = Path(__file__).parents[1]
# These speak of the code or the system, and quote nothing that was read.
_SPEAK_OF_CODE = (AttributeError, ImportError, NameError, NotImplementedError, RecursionError, MemoryError)

_debug = False


def debug(*, wanted: bool) -> None:
    """Whether ``trace`` shows anything, from now on."""
    global _debug  # one process, one command
    _debug = wanted


def line(error: BaseException) -> str:
    """One sentence for the operator."""
    return (
        f"an error in Backfill itself ({_kind(error)} in {_place(error.__traceback__)}). What was committed stays. "
        "`backfill --debug …` shows where it arose, without values: please report that."
    )


def trace(error: BaseException) -> None:
    """Where *error* and what led to it arose, on standard error; nothing unless ``--debug`` was given."""
    if not _debug:
        return
    for one in _chain(error):
        click.echo(f"\n{_kind(one)}", err=True)
        for frame in traceback.extract_tb(one.__traceback__):
            click.echo(f"  {_shown(frame.filename)}:{frame.lineno} in {frame.name}", err=True)


def in_a_thread(ended: threading.ExceptHookArgs) -> None:
    """For ``threading.excepthook``, whose own would print the message."""
    if ended.exc_value is None or ended.exc_type is SystemExit:
        return
    click.echo(f"backfill: a thread ended by {line(ended.exc_value)}", err=True)
    trace(ended.exc_value)


def _kind(error: BaseException) -> str:
    name = type(error).__qualname__
    state = getattr(getattr(error, "orig", error), "pgcode", None)
    if state:
        return f"{name} {state}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: {os.strerror(error.errno)}"
    return f"{name}: {error}" if isinstance(error, _SPEAK_OF_CODE) and str(error) else name


def _place(trace: TracebackType | None) -> str:
    """The innermost line of our own: what lies below is a library's."""
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)] or frames
    return f"{_shown(ours[-1].filename)}:{ours[-1].lineno}" if ours else "an unknown place"


def _shown(file: str) -> str:
    path = Path(file)
    return (
        str(path.relative_to(PACKAGE.parent)) if path.is_relative_to(PACKAGE) else "/".join(path.parts[-2:])
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    here: BaseException | None = error
    while here is not None and here not in seen:
        seen.append(here)
        yield here
        here = here.__cause__ or here.__context__
