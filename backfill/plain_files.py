"""Reading a small file that may be anything: a pipe, a device, a folder, a link to nowhere, endless.

An ordinary ``open`` waits for ever on a pipe that nobody writes to, and reads a device until memory is
full. Here the file is opened without waiting, looked at through its descriptor, and only a regular file
of bounded size is read.
"""

import errno
import os
import stat
from pathlib import Path

KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISLNK, "it is a symbolic link"),
)


class NotPlain(Exception):
    """The file is not a readable regular file of the expected size; the text says why."""


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
