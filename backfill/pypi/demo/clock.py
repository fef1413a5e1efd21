"""Pure: the demo's own time and identifiers; nothing here looks at a real clock."""

import math
from datetime import UTC, datetime
from random import Random

_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_START = datetime(2016, 1, 1, tzinfo=UTC)
_END = datetime(2023, 5, 24, tzinfo=UTC)  # when PyPI wrote about what it did
START = int((_START - _POSTGRES_EPOCH).total_seconds()) * 1_000_000
SPAN = int((_END - _START).total_seconds()) * 1_000_000

_UUID_KEEP = ~((0xF << 76) | (0x3 << 62)) & ((1 << 128) - 1)
_UUID_VERSION_4 = (0x4 << 76) | (0x2 << 62)


def moment(progress: float) -> int:
    """Microseconds since 2000-01-01 for *progress* 0..1 through the demo's years.

    The square root makes later years busier; it is exact in every libm, so a seed gives the same
    data everywhere.
    """
    return START + int(SPAN * math.sqrt(progress))


def new_uuid(rng: Random) -> bytes:
    """16 bytes of a version 4 UUID from a seeded generator."""
    return (rng.getrandbits(128) & _UUID_KEEP | _UUID_VERSION_4).to_bytes(16, "big")


def generator(seed: int, part: str) -> Random:
    """A generator of its own for each *part*, so that a change to one leaves the others' data alone."""
    return Random(f"{seed}/{part}")
