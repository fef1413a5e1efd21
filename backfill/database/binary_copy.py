"""Pure: PostgreSQL's binary COPY format, as much of it as our columns need.

Binary and not text, because a text COPY that is cancelled or whose backend is terminated writes the
line it was reading, address included, to the server log (CONTEXT: COPY …, line 58401: "…"). A binary
one names only line and column.

Every function returns a *field*: four bytes of length, then the value.
"""

import struct
from collections.abc import Iterable, Iterator

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # then no flags and no header extension
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
TRUE, FALSE = b"\0\0\0\1\1", b"\0\0\0\1\0"
CHUNK_BYTES = 1 << 16  # what psycopg2 is told to read at once; its own 8 kB costs more calls than copying

_TIMESTAMP = struct.Struct("!iq")
_INTEGER = struct.Struct("!ii")


def text(value: str) -> bytes:
    """Field of a text, varchar, citext or enum column."""
    data = value.encode()
    return len(data).to_bytes(4, "big") + data


def jsonb(document: bytes) -> bytes:
    """Field of a jsonb column; *document* is JSON text. The leading 1 is the format's version."""
    return (len(document) + 1).to_bytes(4, "big") + b"\x01" + document


def uuid(value: bytes) -> bytes:
    """Field of a uuid column; *value* has 16 bytes."""
    return b"\0\0\0\x10" + value


def timestamp(microseconds: int) -> bytes:
    """Field of a timestamp column; *microseconds* since 2000-01-01."""
    return _TIMESTAMP.pack(8, microseconds)


def integer(value: int) -> bytes:
    """Field of an integer column (32 bits)."""
    return _INTEGER.pack(4, value)


def boolean(value: bool) -> bytes:
    """Field of a boolean column."""
    return TRUE if value else FALSE


def row(*fields: bytes) -> bytes:
    """One row: the number of fields, then the fields."""
    return len(fields).to_bytes(2, "big") + b"".join(fields)


class Stream:
    """Rows as the file that ``copy_expert`` reads; holds one chunk, however many rows there are."""

    def __init__(self, rows: Iterable[bytes]) -> None:
        self._rows: Iterator[bytes] = iter(rows)
        self._buffer = bytearray(SIGNATURE)
        self._ended = False
        self.count = 0  # rows handed out so far

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """At most *size* bytes; none at the end."""
        buffer = self._buffer
        while len(buffer) < size and not self._ended:
            piece = next(self._rows, None)
            if piece is None:
                piece, self._ended = TRAILER, True
            else:
                self.count += 1
            buffer += piece
        chunk = bytes(buffer[:size])
        del buffer[:size]
        return chunk
