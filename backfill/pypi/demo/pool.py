"""The demo's addresses: drawn from real networks of the geo database, used with a heavy tail.

Seven in eight random IPv4 numbers and one in twelve random IPv6 numbers of the ranges that were
handed out lie in the database, so drawing and looking is faster than walking its millions of networks.
"""

import json
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from math import gcd
from random import Random

from backfill.addresses import Address, canonical_text
from backfill.database import binary_copy
from backfill.geo.source import Geo
from backfill.pypi.demo.clock import new_uuid

EVENTS_PER_ADDRESS = 10
MIN_ADDRESSES = 50
UNUSED_SHARE = 200  # one address in so many is known to the live application, though no event has it
V6_EVERY, V6_AT = 10, 7  # a tenth is IPv6
PRIVATE_EVERY, PRIVATE_V4_AT, PRIVATE_V6_AT = 100, 33, 57  # 2 % never resolve
HEAD = 10  # flattens the head of the distribution: the busiest address has about 1 % of the events
DRAWN_BEYOND = 1.13  # pool over used: the tail of the distribution is never drawn at all
CHOSEN_BY = 0.9  # of the events: by then each address of a chosen number of them was met
STRIDE = 7_919  # new addresses do not come in the order of how busy they will be
MAX_DRAWS = 200  # for one address; then it is taken unresolved: a small geo database ends the search

# First 16 bits of what the five registries handed out and people use.
_V6_HEADS = (0x2001, *range(0x2400, 0x240A), *range(0x2600, 0x2608), *range(0x2800, 0x2807), *range(0x2A00, 0x2A10))  # fmt: skip
_PRIVATE_V4 = ((0x0A000000, 24), (0xAC100000, 20), (0xC0A80000, 16), (0x64400000, 22))  # base, free bits

Lookup = Callable[[Address], Geo | None]


class Pool:
    """Addresses by number: 0 is the busiest, those from ``size`` on are in no event.

    Four lists side by side instead of objects: 200,000 addresses take about 60 MB. How many of them
    are met follows from the number of events, unless *addresses* says how many: then one pick in so
    many takes a new one, and the others are drawn as always.
    """

    def __init__(self, events: int, lookup: Lookup, rng: Random, addresses: int | None = None) -> None:
        wanted = max(MIN_ADDRESSES, addresses or int(events / EVENTS_PER_ADDRESS * DRAWN_BEYOND))
        self.size = -(-wanted // V6_EVERY) * V6_EVERY  # whole tens: next to each address lies one of IPv6
        self.texts: list[str] = []  # canonical
        self.raws: list[bytes] = []  # the same as a text field
        self.ids: list[bytes] = []  # uuid field: the id the live application gives it, should it meet it
        self.geos: list[bytes | None] = []  # JSON text of the geo record
        self.used = bytearray(self.size)  # 1: an event has it
        self._base = self.size / HEAD + 1
        self._new_a_pick = self.size / (events * CHOSEN_BY) if addresses else 0.0
        self._due, self._met = 0.0, 0
        self._stride = next(
            step for step in range(STRIDE, STRIDE + self.size, 2) if gcd(step, self.size) == 1
        )
        seen: set[Address] = set()
        shared: dict[bytes, bytes] = {}  # thousands of addresses lie in one city
        for number in range(self.size + max(3, self.size // UNUSED_SHARE)):
            address, geo = _draw(number, lookup, rng, seen)
            document = json.dumps(geo).encode() if geo else None
            self.texts.append(canonical_text(address))
            self.raws.append(binary_copy.text(self.texts[-1]))
            self.ids.append(binary_copy.uuid(new_uuid(rng)))
            self.geos.append(shared.setdefault(document, document) if document else None)

    def pick(self, rng: Random) -> int:
        """The number of an address for one event: P(i) falls as 1 / (i + HEAD)."""
        self._due += self._new_a_pick
        if self._due >= 1 and self._met < self.size:
            self._due -= 1
            number = self._met * self._stride % self.size
            self._met += 1
        else:
            number = self._number(rng)
        self.used[number] = 1
        return number

    def pick_version(self, rng: Random, version: int) -> int:
        """As ``pick``, of one family: 4 or 6."""
        number = self.number_of_version(rng, version)
        self.used[number] = 1
        return number

    def number_of_version(self, rng: Random, version: int) -> int:
        """As ``pick_version``, for a text that is not an address of its own: it is not marked as used."""
        number = self._number(rng)
        if version == 6:
            number += V6_AT - number % V6_EVERY
        elif number % V6_EVERY == V6_AT:
            number -= 1
        return number

    def _number(self, rng: Random) -> int:
        return int(HEAD * (self._base ** rng.random() - 1))


def _draw(number: int, lookup: Lookup, rng: Random, seen: set[Address]) -> tuple[Address, Geo | None]:
    """An address that was not drawn before, with what the geo database knows of it."""
    private = number % PRIVATE_EVERY in (PRIVATE_V4_AT, PRIVATE_V6_AT)
    make = (_private if private else _public)[number % V6_EVERY == V6_AT]
    for _ in range(MAX_DRAWS):
        address = make(rng)
        geo = lookup(address)
        if (geo or private) and address not in seen:
            break
    else:
        while address in seen:
            address = make(rng)
    seen.add(address)
    return address, geo


def _private_v4(rng: Random) -> Address:
    base, bits = rng.choice(_PRIVATE_V4)
    return IPv4Address(base | rng.getrandbits(bits))


def _private_v6(rng: Random) -> Address:
    return IPv6Address(0xFD << 120 | rng.getrandbits(40) << 80 | rng.getrandbits(64))


def _public_v4(rng: Random) -> Address:
    return IPv4Address(rng.getrandbits(32))


def _public_v6(rng: Random) -> Address:
    """A host with random or small interface number in a random /48."""
    network = rng.choice(_V6_HEADS) << 112 | rng.getrandbits(32) << 80
    return IPv6Address(network | rng.getrandbits(64 if rng.getrandbits(1) else 8))


_private = (_private_v4, _private_v6)
_public = (_public_v4, _public_v6)
