"""A log as it comes in: from a file, a pipe or standard input, gzip or not, in blocks of whole lines."""

import errno
import fcntl
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

from backfill.errors import LogUnreadable

BLOCK = 1 << 20
MAX_LINE = 64 << 20  # bytes; what has no line end for so long is no log
MOST_MAGIC = 6
GZIP = b"\x1f\x8b"
# Read as text, such a file has lines without an address, which would be passed on as they are: with every address.
COMPRESSED = {
    GZIP: "gzip, twice",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
}
_UTF16 = re.compile(rb"\A(?:\xff\xfe|\xfe\xff)|[0-9]\0\.\0[0-9]\0|\0[0-9]\0\.\0[0-9]")


class _After(io.RawIOBase):
    """*begin*, which was read to see what it is, and then the rest."""

    def __init__(self, begin: bytes, rest: BinaryIO) -> None:
        self._begin, self._rest = begin, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self._begin or self._rest.read1(len(buffer))  # type: ignore[attr-defined]  # of a buffered reader
        size = min(len(part), len(buffer))
        buffer[:size] = part[:size]
        self._begin = part[size:] if self._begin else b""
        return size


class LogSource:
    """One log to be read. *name* is for messages; *left* says there what was left as it is."""

    def __init__(self, stream: BinaryIO, name: str, left: str = "Nothing was written.") -> None:
        self._stream, self.name, self._left = stream, name, left
        self._begin: bytes | None = None

    @classmethod
    def opened(cls, path: Path) -> Self:
        """The file, or pipe, of that name. Raises ``LogUnreadable``."""
        try:
            if stat.S_ISDIR(path.stat().st_mode):
                raise LogUnreadable(path=path, problem="it is a folder", left="Name the files in it.")
            return cls(path.open("rb"), str(path))
        except (OSError, ValueError) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or "no file has that name"
            raise LogUnreadable(path=path, problem=problem, left="Nothing was written.") from error

    def stat(self) -> os.stat_result | None:
        """Of a regular file; None for anything else."""
        try:
            found = os.fstat(self._stream.fileno())
        except (OSError, ValueError):
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def is_open_elsewhere(self) -> bool:
        """Whether some process can write to this file: then what it writes later would be lost with the old file.

        Asked by a lease, which Linux grants where nobody has the file open for writing. Elsewhere, and on file
        systems that know no leases, the answer is no.
        """
        setlease = getattr(fcntl, "F_SETLEASE", None)
        if setlease is None:
            return False
        try:
            fcntl.fcntl(self._stream.fileno(), setlease, fcntl.F_RDLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        with suppress(OSError):
            fcntl.fcntl(self._stream.fileno(), setlease, fcntl.F_UNLCK)
        return False

    def tell(self) -> int:
        """How many bytes of the file have been read."""
        try:
            return os.lseek(self._stream.fileno(), 0, os.SEEK_CUR)
        except (OSError, ValueError):
            return 0

    @property
    def gzipped(self) -> bool:
        """Whether it is compressed by gzip, whatever its name."""
        return self._beginning().startswith(GZIP)

    def blocks(self) -> Iterator[bytes]:
        """Whole lines, as soon as they are there. Raises ``LogUnreadable``."""
        begin = self._beginning()
        reader = io.BufferedReader(_After(begin, self._stream), BLOCK)
        data: Any = gzip.GzipFile(fileobj=reader, mode="rb") if self.gzipped else reader
        first, size = True, 0
        open_line: list[bytes] = []
        while part := self._read(data, BLOCK):
            if first:
                part += self._completed(data, part)
                self._require_text(part)
                first = False
            end = part.rfind(b"\n") + 1
            if end:
                yield b"".join([*open_line, part[:end]])
                open_line, size = [], 0
            open_line.append(part[end:])
            size += len(part) - end
            if size > MAX_LINE:
                raise self._fault(f"it has a line of more than {MAX_LINE >> 20} MiB")
        if size:
            yield b"".join(open_line)

    def close(self) -> None:
        """Give the file back."""
        self._stream.close()

    def _beginning(self) -> bytes:
        if self._begin is None:
            begin = b""
            while len(begin) < len(GZIP) and (part := self._read(self._stream, BLOCK)):
                begin += part
            self._begin = begin
        return self._begin

    def _completed(self, data: Any, part: bytes) -> bytes:
        """The rest of a first part that is too short to be known by its beginning."""
        more = b""
        if any(magic.startswith(part) for magic in COMPRESSED):
            while len(part) + len(more) < MOST_MAGIC and (next_part := self._read(data, BLOCK)):
                more += next_part
        return more

    def _require_text(self, part: bytes) -> None:
        for magic, name in COMPRESSED.items():
            if part.startswith(magic):
                raise self._fault(f"it is compressed ({name}); decompress it first")
        if _UTF16.search(part, 0, 4096):
            raise self._fault("it is UTF-16; convert it to UTF-8 first (`iconv -f UTF-16 -t UTF-8`)")

    def _read(self, data: Any, size: int) -> bytes:
        try:
            part: bytes = data.read1(size)
        except EOFError:
            raise self._fault(
                "its gzip data end too early; it was cut off, or is still being written"
            ) from None
        except (gzip.BadGzipFile, zlib.error):
            raise self._fault("its gzip data are damaged") from None
        except OSError as error:
            raise self._fault(error.strerror or "it cannot be read") from error
        return part

    def _fault(self, problem: str) -> LogUnreadable:
        return LogUnreadable(path=self.name, problem=problem, left=self._left)
