"""Files: results appear whole under their name or not at all; input is read within bounds.

A result is written beside its place and renamed onto it: whoever reads the name meets the old file
or the new one, also after a full disk or a kill.

An ordinary ``open`` waits for ever on a pipe that nobody writes to, and reads a device until memory is
full. Here a file is opened without waiting, looked at through its descriptor, and read up to a bound.
"""

import errno
import os
import select
import stat
import tempfile
import time
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backfill.errors import InputUnreadable, OutputUnwritable

LARGEST_INPUT = 64 << 20  # bytes; a disclosure of thousands of tables is under one megabyte
PIPE_SECONDS = 10.0  # that a pipe may be silent
KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISLNK, "it is a symbolic link"),
)


UNSEEN = "# Made by Backfill: data and secrets of a demo are not for a repository.\n*\n"


class NotPlain(Exception):
    """The file is not a readable regular file of the expected size; the text says why."""


def make_home(home: Path) -> None:
    """Make the folder of demo and embedded server; git does not see what is in one that is made here."""
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        home.mkdir()
    except FileExistsError:
        if not home.is_dir():
            raise
        return
    (home / ".gitignore").write_text(UNSEEN, encoding="utf-8")


def empty_home(home: Path) -> None:
    """Take back what ``make_home`` left in a folder that holds nothing else any more."""
    with suppress(OSError, UnicodeDecodeError):
        own = home / ".gitignore"
        if [path.name for path in home.iterdir()] == [own.name] and own.read_text(encoding="utf-8") == UNSEEN:
            own.unlink()


def require_writable(path: Path, *, new: bool = False, what: str = "--output") -> None:
    """Before any work: whether *path* can become a file. *new*: it must not be there. Raises ``OutputUnwritable``."""
    try:
        found = os.stat(path)  # noqa: PTH116  # follows links, as writing does
    except FileNotFoundError:
        found = None
    except (OSError, ValueError) as error:
        raise _unwritable(path, what, error) from error
    if found is not None and new:
        raise OutputUnwritable(what=what, path=path, problem="it is there already, and it is not overwritten")
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise OutputUnwritable(what=what, path=path, problem="it is a folder; name a file in it")
    if found is not None and not os.access(path, os.W_OK):
        raise OutputUnwritable(what=what, path=path, problem="it may not be written (permission denied)")
    if found is not None and not stat.S_ISREG(found.st_mode):
        return  # a device or pipe is written as it is
    folder = _place(path).parent
    if not folder.is_dir():
        raise OutputUnwritable(what=what, path=path, problem=f"there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputUnwritable(what=what, path=path, problem=f"nothing may be written in the folder {folder}")


def write_whole(path: Path, content: str, *, private: bool = False, what: str = "--output") -> None:
    """*content* under *path*. A link is followed, an existing file keeps its mode and owner; *private*: a new
    file for its owner only, never in place of another. Raises ``OutputUnwritable``."""
    require_writable(path, new=private, what=what)
    data = content.encode("utf-8", errors="surrogateescape")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        _replace(_place(path), data, private=private)
    except (OSError, ValueError) as error:
        raise _unwritable(path, what, error) from error


def _replace(place: Path, data: bytes, *, private: bool) -> None:
    descriptor, beside = tempfile.mkstemp(prefix=".backfill-", dir=place.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if not private:
                _as_it_was(place, file.fileno())
            file.flush()
            os.fsync(file.fileno())
        if private:
            os.link(beside, place)  # unlike a rename, never over a file that came meanwhile
        else:
            os.replace(beside, place)  # noqa: PTH105
            return
        os.unlink(beside)  # noqa: PTH108
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)  # noqa: PTH108
        raise


def _as_it_was(place: Path, descriptor: int) -> None:
    """Mode and owner of the file that is replaced; those of any new file where there is none."""
    try:
        was = place.stat()
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(descriptor, 0o666 & ~mask)
        return
    with suppress(PermissionError):  # another's file that its group may write becomes ours
        os.fchown(descriptor, was.st_uid, was.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(was.st_mode))


def require_suffix(path: Path, known: Sequence[str], what: str = "--output") -> None:
    """Raises ``OutputUnwritable`` for a suffix that promises another format; none is no promise."""
    if path.suffix and path.suffix not in known:
        raise OutputUnwritable(
            what=what,
            path=path,
            problem=f"{path.suffix} is not a format that is written; known are {', '.join(known)}",
        )


def read_text(path: Path) -> str:
    """The UTF-8 text of an input file, or of a pipe that somebody writes to. Raises ``InputUnreadable``."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISDIR(mode):
                raise InputUnreadable(path=path, problem="it is a folder")
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                raise InputUnreadable(path=path, problem="it is neither a file nor a pipe")
            data = _within_bounds(file.fileno(), path)
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise InputUnreadable(path=path, problem=f"byte {error.start + 1} is not UTF-8") from error
        problem = (error.strerror if isinstance(error, OSError) else None) or "it cannot be opened"
        raise InputUnreadable(path=path, problem=problem) from error


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises ``InputUnreadable``."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputUnreadable(path=path, problem=f"not TOML: {error}") from error
    except RecursionError as error:
        raise InputUnreadable(
            path=path, problem="not TOML that can be read: it is nested too deeply"
        ) from error
    except ValueError as error:  # a number of thousands of digits, a date that does not exist
        raise InputUnreadable(
            path=path, problem="not TOML that can be read: a value is out of range"
        ) from error


def _within_bounds(descriptor: int, path: Path) -> bytes:
    parts: list[bytes] = []
    size = 0
    until = time.monotonic() + PIPE_SECONDS
    while True:
        try:
            part = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            if not select.select([descriptor], [], [], max(until - time.monotonic(), 0))[0]:
                raise InputUnreadable(
                    path=path, problem=f"nobody wrote to it for {PIPE_SECONDS:.0f} s"
                ) from None
            continue
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        until = time.monotonic() + PIPE_SECONDS
        if size > LARGEST_INPUT:
            raise InputUnreadable(path=path, problem=f"it has more than {LARGEST_INPUT >> 20} MiB")


def _place(path: Path) -> Path:
    """Where a file of that name lies: a link is followed, and what it names need not be there yet."""
    return Path(os.path.realpath(path))


def _unwritable(path: Path, what: str, error: Exception) -> OutputUnwritable:
    problem = (error.strerror if isinstance(error, OSError) else None) or "no file can have that name"
    return OutputUnwritable(what=what, path=path, problem=problem)


def read_plain(
    path: Path | str, limit: int, *, folder: int | None = None, links: bool = True
) -> tuple[bytes, os.stat_result]:
    """The content of a regular file of at most *limit* bytes, and what it is.

    *folder* is a descriptor that *path* is relative to; *links*: whether a symbolic link at its end is
    followed. Raises ``NotPlain``; ``FileNotFoundError`` where nothing of that name exists.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags, dir_fd=folder)
    except FileNotFoundError:
        if links and folder is None and Path(path).is_symlink():
            raise NotPlain("it is a symbolic link that leads nowhere") from None
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotPlain("it is a symbolic link" if not links else "its links go in a circle") from None
        if error.errno == errno.ENXIO:
            raise NotPlain("it is a socket") from None
        raise NotPlain(error.strerror or "it cannot be opened") from None
    try:
        found = os.fstat(descriptor)
        kind = kind_of(found)
        if kind is not None:
            raise NotPlain(kind)
        if found.st_size > limit:
            raise NotPlain(f"it is {found.st_size:,} bytes long, and at most {limit:,} are expected")
        content = b""
        while len(content) <= limit:  # files under /proc and /sys have no size of their own
            part = os.read(descriptor, limit + 1 - len(content))
            if not part:
                return content, found
            content += part
        raise NotPlain(f"it is longer than {limit:,} bytes")
    except OSError as error:
        raise NotPlain(error.strerror or "it cannot be read") from None
    finally:
        os.close(descriptor)


def kind_of(found: os.stat_result) -> str | None:
    """What *found* is, in words; None for a regular file."""
    return next((words for test, words in KINDS if test(found.st_mode)), None)
