"""Pure: values that were compressed and stayed in their row, found in bytes of any kind of file.

Such a value begins with eight bytes: a length that says "compressed, not out of line", and the size
and method of what it was (pglz, LZ4). Those are looked for, and tried: what decompresses to exactly
the size named, out of exactly the bytes named, was compressed. So no catalog is asked, and versions of
rows that are dead, pages in the WAL, and index entries are read alike.
"""

import re
import struct
from collections.abc import Iterator

from backfill.prove import toast

MAX_LENGTH = 8192  # a row, and with it the value, lies in one page
MIN_LENGTH = 16  # two words of header, and at least something
HEAD = struct.Struct("<II")
MOST = (100, 256)  # bytes that one byte of pglz, of LZ4, can stand for

# Both words little-endian. The length's lowest bits are 10; at most a page, so its upper half is zero.
# A page cannot hold more than 2 MB of anything. The pattern begins with a literal,
# which re looks for at memory speed, and looks back from there.
_COMPRESSED = b"[" + b"".join(re.escape(bytes([low])) for low in range(2, 256, 4)) + b"]"
_HEAD = re.compile(
    rb"\x00\x00(?<=" + _COMPRESSED + rb"[\x00-\x7f]\x00\x00)(?=[\x00-\xff]{2}[\x00-\x1f][\x00\x40])"
)


def candidates(piece: bytes, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Where such a value may begin between *first* and *last*: position and length."""
    for hit in _HEAD.finditer(piece, first, min(last + HEAD.size, len(piece))):
        at = hit.start() - 2
        if not first <= at < last or at + HEAD.size > len(piece):
            continue
        header, info = HEAD.unpack_from(piece, at)
        length, size, method = header >> 2, info & 0x3FFFFFFF, info >> 30
        # The server keeps the compressed form only where that saves something.
        if MIN_LENGTH <= length <= MAX_LENGTH and length - HEAD.size < size <= length * MOST[method]:
            yield at, length


def value(piece: bytes, at: int, length: int) -> bytes | None:
    """The value that begins there; ``None`` where none does."""
    compressed = piece[at + 4 : at + length]
    if len(compressed) < length - 4:
        return None
    found = toast.decompressed(compressed, whole=True)
    return None if found is compressed else found
