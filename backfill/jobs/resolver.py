"""Resolver: what a text becomes where it becomes a link: canonical form, hash, place. In the client, without a database."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from backfill.addresses import Reason, canonicalise
from backfill.geo.geo_database import GeoDatabase
from backfill.geo.source import KEYS

PLACES = 50_000  # kept encoded, under a kilobyte each: 196,000 addresses lay in 23,000 places
_JSON = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode  # json.dumps makes one a call


@lru_cache(PLACES)
def encoded(place: tuple[str | float | None, ...]) -> bytes:
    """The JSON of the values of ``KEYS``, in that order: pairs of key and value took half as much memory again."""
    return _JSON({key: value for key, value in zip(KEYS, place, strict=True) if value is not None}).encode()


class Resolved(NamedTuple):
    """A text and what became of it, as COPY wants it: text or None."""

    raw: str
    address: str | None
    hash: str | None
    geo: bytes | None  # JSON, wrapped: {"geoip_info": …}
    reason: str | None
    lost: str | None = None  # keys of the place whose values the database cannot hold, with commas


@dataclass(frozen=True)
class Resolver:
    """Text → ``Resolved``; holds the salt inside the hash function and the open geo database."""

    hash_address: Callable[[str], str]
    geo: GeoDatabase

    def resolve(self, texts: Iterable[str]) -> Iterator[Resolved]:
        """Each text once; never raises for a text."""
        for raw in texts:
            address = canonicalise(raw)
            if isinstance(address, Reason):
                yield Resolved(raw, None, None, None, address.value)
                continue
            text = str(address)
            record, lost = self.geo.look(address)
            geo = b'{"geoip_info":' + encoded(tuple(map(record.get, KEYS))) + b"}" if record else None
            yield Resolved(raw, text, self.hash_address(text), geo, None, ",".join(lost) or None)
