"""Pure: heap pages as they lie in a file. For clusters that are stopped, and for backups.

PostgreSQL 14 to 18 share this layout (page version 4, pages of 8 kB, little-endian machines).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

SIZE = 8192
LAYOUT = 4
HEADER = struct.Struct(
    "<IIHHHHHHI"
)  # lsn (two halves), checksum, flags, lower, upper, special, size+version, prune
HEADER_BYTES = 24
NORMAL = 1  # a line pointer's flags: it has a row version behind it

HAS_NULLS = 0x0001
NATTS_MASK = 0x07FF


@dataclass(frozen=True)
class Tuple:
    """A row version, live or dead."""

    natts: int
    nulls: bytes | None  # one bit an attribute, 1: not null; None: nothing is null
    data: bytes

    def carries(self, attribute: int) -> bool:
        """Whether attribute number *attribute* (from 1) has a value in it."""
        if attribute > self.natts:
            return False
        if self.nulls is None:
            return True
        return bool(self.nulls[(attribute - 1) // 8] >> (attribute - 1) % 8 & 1)


def pages(data: bytes) -> Iterator[bytes]:
    """Whole pages that were ever written."""
    for at in range(0, len(data) - SIZE + 1, SIZE):
        piece = data[at : at + SIZE]
        if any(piece[:HEADER_BYTES]):
            yield piece


def lsn(piece: bytes) -> int:
    """Where the WAL stood when the page was last changed; 0 for one that is not logged."""
    high, low, *_ = HEADER.unpack_from(piece)
    return int(high << 32 | low)


def number(text: str) -> int:
    """``"16/B374D848"`` as a number."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def tuples(data: bytes) -> Iterator[Tuple]:
    """Every row version that a line pointer of those heap pages leads to."""
    for piece in pages(data):
        _, _, _, _, lower, upper, special, version, _ = HEADER.unpack_from(piece)
        if version & 0xFF != LAYOUT or not HEADER_BYTES <= lower <= upper <= special <= SIZE:
            continue
        for at in range(HEADER_BYTES, lower, 4):
            (pointer,) = struct.unpack_from("<I", piece, at)
            offset, flags, length = pointer & 0x7FFF, pointer >> 15 & 3, pointer >> 17
            if flags != NORMAL or length < 23 or offset + length > SIZE:
                continue
            row = piece[offset : offset + length]
            mask2, mask, start = struct.unpack_from("<HHB", row, 18)
            natts = mask2 & NATTS_MASK
            nulls = row[23 : 23 + (natts + 7) // 8] if mask & HAS_NULLS else None
            yield Tuple(natts, nulls, row[start:])
