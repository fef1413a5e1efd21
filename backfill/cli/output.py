"""Output: the streams that every command writes to, made safe, and honest about what could not be written.

Names of other people's objects pass through here last: what a terminal would obey is shown as an
escape. A reader who goes away, or a full disk under standard output, never ends a command in its
middle: it comes to its end, and the exit code says afterwards that something is missing there.
"""

import errno
import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from backfill import escaping


class Stream(io.TextIOBase):
    """A text stream in front of *raw*; the first write that failed is kept."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw
        self.failure: OSError | None = None

    @property
    def gone(self) -> bool:
        """Whether the reader closed the pipe: nobody is there to be told anything."""
        return self.failure is not None and self.failure.errno == errno.EPIPE

    @property
    def unfiltered(self) -> TextIO:
        """The stream beneath; ``escaping.unfiltered`` asks for it."""
        return self.raw

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream beneath."""
        return self.raw.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """Of the stream beneath."""
        return self.raw.errors

    def write(self, shown: str) -> int:
        """As for any stream; says that all was written even where it could not be."""
        self._try(lambda: self.raw.write(self._encodable(escaping.text(shown))))
        return len(shown)

    def write_exactly(self, content: bytes) -> None:
        """*content* as it is, for a program that reads it; a failure is kept as that of any line is."""
        self._try(lambda: (self.raw.flush(), self.raw.buffer.write(content)))

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        """Each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Through to the reader."""
        self._try(self.raw.flush)

    def isatty(self) -> bool:
        """Whether a person reads."""
        return self.raw.isatty()

    def fileno(self) -> int:
        """Of the stream beneath."""
        return self.raw.fileno()

    def writable(self) -> bool:
        """It is for nothing else."""
        return True

    def _encodable(self, shown: str) -> str:
        encoding = self.raw.encoding or "utf-8"
        return shown.encode(encoding, "backslashreplace").decode(encoding)

    def _try(self, write: Any) -> None:
        if self.failure is not None:
            return
        try:
            write()
        except OSError as error:
            self.failure = error
            # What is buffered would be tried again, and complained of, when the interpreter ends.
            with suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), self.raw.fileno())


def install() -> None:
    """Put safe streams in place of the process's own. A closed descriptor is taken first: the next file or socket
    that is opened would get its number, and our words with it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is not None:
        sys.stdout = Stream(sys.stdout)
    if sys.stderr is not None:
        sys.stderr = Stream(sys.stderr)


def failure() -> OSError | None:
    """Why standard output is not whole, if it is not. A reader who went away wanted no more."""
    stream = sys.stdout
    if not isinstance(stream, Stream):
        return None
    stream.flush()
    return None if stream.gone else stream.failure


def exactly(text: str) -> None:
    """Write *text* to standard output, in UTF-8: to a terminal as any line, to a file or program without any change."""
    stream = sys.stdout
    if isinstance(stream, Stream) and not stream.isatty():
        stream.write_exactly(text.encode())
    else:
        stream.write(text)


def stream_bytes(content: bytes) -> bool:
    """Write *content* to standard output, and through to its reader, as it is. False: nothing more can be written, and
    ``failure`` says why."""
    stream = sys.stdout
    if isinstance(stream, Stream):
        stream.write_exactly(content)
        stream.flush()
        return stream.failure is None
    stream.buffer.write(content)
    stream.flush()
    return True


def gone() -> bool:
    """Whether nobody reads standard output any more: a command that shows for ever can end."""
    return isinstance(sys.stdout, Stream) and sys.stdout.gone
