"""A rewritten log under its name: whole or not at all, and readable by nobody who could not read the log before."""

import gzip
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from backfill.errors import OutputUnwritable

EVERYBODY = 0o777
GROUP = 0o070


class WholeFile:
    """Written beside *place* and put there by ``finish``. Leaving ``with`` without that removes it.

    *was* is the log that is rewritten, None for a pipe. *instead*: it takes the place of that file; otherwise a
    file that is there already is refused. Raises ``OutputUnwritable``.
    """

    def __init__(self, place: Path, was: os.stat_result | None, *, zipped: bool, instead: bool) -> None:
        self.path = place
        self._place = Path(os.path.realpath(place)) if instead else place
        self._was, self._instead, self._zipped = was, instead, zipped

    def __enter__(self) -> Self:
        if not self._instead and os.path.lexists(self._place):
            raise self._unwritable("it is there already, and it is not overwritten")
        try:
            descriptor, beside = tempfile.mkstemp(prefix=".backfill-", dir=self._place.parent)  # 0600
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from error
        self._beside: Path | None = Path(beside)
        self._file = os.fdopen(descriptor, "wb")
        self._out: BinaryIO | gzip.GzipFile = self._file
        if self._zipped:  # no name and no time in its header: both would be those of this moment
            self._out = gzip.GzipFile(filename="", mode="wb", fileobj=self._file, compresslevel=6, mtime=0)
        return self

    def write(self, block: bytes) -> None:
        """One block more."""
        try:
            self._out.write(block)
        except OSError as error:
            raise self._unwritable(error) from error

    def finish(self) -> None:
        """Put it in its place."""
        try:
            if self._out is not self._file:
                self._out.close()
            self._file.flush()
            self._as_it_was(self._file.fileno())
            os.fsync(self._file.fileno())
            if self._beside is None:
                return
            if self._instead:
                os.replace(self._beside, self._place)  # noqa: PTH105
                self._beside = None
            else:
                os.link(self._beside, self._place)  # unlike a rename, never over a file that came meanwhile
            with suppress(OSError):  # some file systems know no sync of a folder
                folder = os.open(self._place.parent, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except FileExistsError as error:
            raise self._unwritable("it is there already, and it is not overwritten") from error
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, ValueError):  # what it could not write it says when it is closed, once more
            self._file.close()
        if self._beside is not None:
            with suppress(OSError):
                self._beside.unlink()

    def _as_it_was(self, descriptor: int) -> None:
        """Mode, group and times of the log; where the group cannot be kept, the new one may read nothing."""
        was = self._was
        if was is None:
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(descriptor, 0o666 & ~mask)
            return
        mode = stat.S_IMODE(was.st_mode) & EVERYBODY
        with suppress(PermissionError):
            os.fchown(descriptor, was.st_uid if self._instead else -1, was.st_gid)
        if os.fstat(descriptor).st_gid != was.st_gid:
            mode &= ~GROUP
        os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(was.st_atime_ns, was.st_mtime_ns))

    def _unwritable(self, problem: str | Exception) -> OutputUnwritable:
        if isinstance(problem, Exception):
            problem = (
                problem.strerror if isinstance(problem, OSError) else None
            ) or "no file can be made there"
        return OutputUnwritable(what="log", path=self.path, problem=problem)
