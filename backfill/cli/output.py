"""Output: the streams that every command writes to, made safe, and honest about what could not be written.

Names of other people's objects pass through here last: what a terminal would obey is shown as an
escape. On a terminal, lines keep to its width; in a pipe or a file they are as they were made. A reader who goes away, or a full disk under standard output, never ends a command in its
middle: it comes to its end, and the exit code says afterwards that something is missing there.
"""

import errno
import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

import click

from backfill import escaping
from backfill.report import text
from backfill.report.document import Block, Note, Tone
from backfill.report.screen import PAGE, Screen

WIDTH = 80  # of a terminal that does not say


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

    def write(self, shown: str | bytes) -> int:
        """As for any stream; says that all was written even where it could not be. Click hands completions over as bytes."""
        safe = escaping.text(shown if isinstance(shown, str) else shown.decode(errors="replace"))
        width = screen_of(self).width
        if width is not None:
            from backfill.report import wrap  # here: a pipe does not need it

            safe = wrap.text(safe, width)
        self._try(lambda: self.raw.write(self._encodable(safe)))
        return len(shown)

    def write_unwrapped(self, shown: str) -> None:
        """*shown* made safe, on lines as long as they are."""
        self._try(lambda: self.raw.write(self._encodable(escaping.text(shown))))

    def write_drawn(self, shown: str) -> None:
        """*shown*, made safe and drawn for this terminal before: it may hold colours."""
        self._try(lambda: self.raw.write(self._encodable(shown)))

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


def exactly(content: str) -> None:
    """Write *content* to standard output, in UTF-8: to a terminal as any line, to a file or program without any change."""
    stream = sys.stdout
    if isinstance(stream, Stream) and not stream.isatty():
        stream.write_exactly(content.encode())
    elif isinstance(stream, Stream):
        stream.write_unwrapped(content)
    else:
        click.echo(content, nl=False)


def unwrapped(content: str) -> None:
    """Write *content*, which is for a program or a file, made safe, on lines as long as they are."""
    stream = sys.stdout
    if isinstance(stream, Stream):
        stream.write_unwrapped(content)
    else:
        click.echo(content, nl=False)


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


def screen_of(stream: TextIO | Any | None) -> Screen:
    """What *stream* is shown on. There is none where a descriptor was closed when Python began."""
    if stream is None or not stream.isatty():
        return PAGE
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return Screen(int(given), colour)
    try:
        return Screen(os.get_terminal_size(stream.fileno()).columns or WIDTH, colour)
    except (OSError, ValueError):
        return Screen(WIDTH, colour)


def show(*blocks: Block) -> None:
    """Print these blocks, one under the other."""
    draw(text.blocks(blocks, screen_of(sys.stdout)))


def say(sentence: str, tone: Tone) -> None:
    """Print a sentence in the colour of what it says."""
    show(Note(sentence, tone))


def draw(made: str) -> None:
    """Print what ``report.text`` made for ``screen_of(sys.stdout)``."""
    stream = sys.stdout
    if isinstance(stream, Stream) and stream.isatty():
        stream.write_drawn(f"{made}\n")
        stream.flush()
    else:
        click.echo(made)
