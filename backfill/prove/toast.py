"""Pure: values out of the pages of a TOAST table, dead ones included, decompressed.

A byte search does not see an address in a compressed value. Which values are compressed is written
in the rows that point to them; here it is tried: what decompresses to exactly the size that its
first bytes name was compressed.
"""

import struct
from collections.abc import Iterator

from backfill.prove import page

MAX_VALUE = 1 << 30  # the server's own limit for a value


def chunks(pages: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Value id, number and bytes of every chunk in those pages."""
    for tuple_ in page.tuples(pages):
        data = tuple_.data
        if len(data) < 9:
            continue
        value, number = struct.unpack_from("<Ii", data)
        if data[8] & 1:  # a short header: the length is in seven bits, itself included
            yield value, number, data[9 : 8 + (data[8] >> 1)]
        elif len(data) >= 12:
            (header,) = struct.unpack_from("<I", data, 8)
            yield value, number, data[12 : 8 + (header >> 2)]


def values(pages: bytes) -> Iterator[bytes]:
    """Every value that the chunks of those pages make up, decompressed where it was compressed."""
    parts: dict[int, dict[int, bytes]] = {}
    for value, number, data in chunks(pages):
        parts.setdefault(value, {})[number] = data
    for numbered in parts.values():
        yield decompressed(b"".join(numbered[number] for number in sorted(numbered)))


def decompressed(data: bytes, *, whole: bool = False) -> bytes:
    """*data* decompressed; the very same, when it was not compressed. *whole*: only if all of it is used up."""
    if len(data) < 5:
        return data
    (info,) = struct.unpack_from("<I", data)
    size, method = info & 0x3FFFFFFF, info >> 30
    if not len(data) - 4 < size < MAX_VALUE or method > 1:
        return data
    try:
        found, used = (pglz, lz4)[method](data[4:], size)
    except (IndexError, ValueError):
        return data
    return data if len(found) != size or (whole and used != len(data) - 4) else found


def pglz(source: bytes, size: int) -> tuple[bytes, int]:
    """PostgreSQL's own compression: eight items a control byte, each a byte or a look back. With the bytes read."""
    out = bytearray()
    at, end = 0, len(source)
    while at < end and len(out) < size:
        control = source[at]
        at += 1
        for bit in range(8):
            if at >= end or len(out) >= size:
                break
            if control >> bit & 1:
                length = (source[at] & 0x0F) + 3
                offset = (source[at] & 0xF0) << 4 | source[at + 1]
                at += 2
                if length == 18:
                    length += source[at]
                    at += 1
                _look_back(out, offset, min(length, size - len(out)))
            else:
                out.append(source[at])
                at += 1
    return bytes(out), at


def lz4(source: bytes, size: int) -> tuple[bytes, int]:
    """An LZ4 block: literals, then a look back, each with a length in four bits or more. With the bytes read."""
    out = bytearray()
    at, end = 0, len(source)
    while at < end:
        token = source[at]
        at += 1
        length, at = _length(source, at, token >> 4)
        out += source[at : at + length]
        at += length
        if at >= end:
            break
        offset = source[at] | source[at + 1] << 8
        length, at = _length(source, at + 2, token & 15)
        _look_back(out, offset, length + 4)
        if len(out) > size:
            raise ValueError("longer than it says")
    return bytes(out), at


def _length(source: bytes, at: int, length: int) -> tuple[int, int]:
    if length == 15:
        more = 255
        while more == 255:
            more = source[at]
            at += 1
            length += more
    return length, at


def _look_back(out: bytearray, offset: int, length: int) -> None:
    if not 0 < offset <= len(out):
        raise ValueError("looks back before the beginning")
    piece = out[len(out) - offset :]
    if offset < length:  # what is being copied is copied again
        piece = piece * (length // offset + 1)
    out += piece[:length]
