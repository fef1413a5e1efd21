"""Logs from files to files. A file that cannot be rewritten safely is refused before it is read."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from backfill.errors import LogUnreadable, OutputUnwritable
from backfill.web.access_log import LogCounts, LogRewriter
from backfill.web.log_source import LogSource
from backfill.web.whole_file import WholeFile

Told = Callable[[LogSource], None]  # after each block


def rewrite_in_place(path: Path, log: LogRewriter, told: Told) -> LogCounts:
    """Put a rewritten file in the place of *path*; a link is followed.

    Raises ``LogUnreadable``, ``LogLineRefused`` and ``OutputUnwritable``; the file is as it was then.
    """
    source = _opened(path)
    try:
        was = source.stat()
        problem = _unfit(was, source)
        if was is None or problem is not None:
            raise LogUnreadable(path=path, problem=problem, left="It was left as it is.")
        with WholeFile(path, was, zipped=source.gzipped, instead=True) as out:
            for block in source.blocks():
                out.write(log.block(block))
                told(source)
                _require_unchanged(path, source, was)  # a log that grows as fast as it is read has no end
            _require_unchanged(path, source, was)
            if source.is_open_elsewhere() or not os.path.samestat(path.stat(), was):
                raise _written_to(path)
            out.finish()
    finally:
        source.close()
    return log.counts


def rewrite_to(source: LogSource, place: Path, log: LogRewriter, told: Told, *, zipped: bool) -> LogCounts:
    """Write the rewritten log to *place*, a new file. Raises as ``rewrite_in_place``; there is no file then."""
    was = source.stat()
    if was is not None and _is_same(place, was):
        raise OutputUnwritable(
            what="log",
            path=place,
            problem="it is the log itself; `--in-place` puts the new file in its place",
        )
    with WholeFile(place, was, zipped=zipped, instead=False) as out:
        for block in source.blocks():
            out.write(log.block(block))
            told(source)
        out.finish()
    return log.counts


def _opened(path: Path) -> LogSource:
    """Opened only if it is a regular file: opening a pipe would wait for its writer."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        regular = True  # opening it says what is wrong
    if not regular:
        raise LogUnreadable(
            path=path, problem="it is no file that can be replaced", left="Name a regular file."
        )
    return LogSource.opened(path)


def _unfit(was: os.stat_result | None, source: LogSource) -> str | None:
    """Why a file cannot be replaced without losing something."""
    if was is None:
        return "it is no file that can be replaced"
    if was.st_nlink > 1:
        return f"it has {was.st_nlink} names (hard links), and the others would keep the raw addresses"
    if os.geteuid() not in (0, was.st_uid):
        return (
            f"it belongs to user id {was.st_uid}; only that user, or root, can put another file in its place"
        )
    if source.is_open_elsewhere():
        return "a process has it open for writing, and would go on in the old file; rotate the log first"
    return None


def _require_unchanged(path: Path, source: LogSource, was: os.stat_result) -> None:
    now = source.stat()
    if now is None or (now.st_size, now.st_mtime_ns) != (was.st_size, was.st_mtime_ns):
        raise _written_to(path)


def _written_to(path: Path) -> LogUnreadable:
    return LogUnreadable(
        path=path,
        problem="it was written to, or replaced, meanwhile; rotate the log first",
        left="It was left as it is.",
    )


def _is_same(place: Path, was: os.stat_result) -> bool:
    try:
        return os.path.samestat(place.stat(), was)
    except (OSError, ValueError):
        return False
