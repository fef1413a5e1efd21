"""The geo database of a run: one source, asked for what the plan names and the target database can hold."""

from collections.abc import Collection
from math import isfinite
from types import TracebackType
from typing import Self

from backfill.addresses import Address, Kind, Reason, canonicalise, classify, is_tunnelled
from backfill.geo.source import KEYS, Geo, GeoProvenance, GeoSource
from backfill.plan import GeoKey


class GeoDatabase:
    """An open geo database; made by ``open_geo``, closed by ``close`` or at the end of ``with``.

    Not shared between processes: each worker opens its own.
    """

    def __init__(self, source: GeoSource, keys: Collection[GeoKey] = KEYS, codec: str = "utf-8") -> None:
        self.keys = tuple(key for key in KEYS if key in keys)  # that its answers may have
        self._source, self._codec = source, codec
        self._find = source.find

    @property
    def provenance(self) -> GeoProvenance:
        """Which source it is."""
        return self._source.provenance

    def lookup(self, address: Address | str) -> Geo | None:
        """The planned fields of *address*; None when it has none of them, is not public, comes out of a tunnel, or is no address.

        Raises ``GeoFileUnusable`` when the file turns out to be damaged where the record lies.
        """
        if isinstance(address, str):
            spelled = canonicalise(address)
            if isinstance(spelled, Reason):
                return None
            address = spelled
        return self._planned(self._source.find_one(address))[0] if _has_a_place(address) else None

    def look(self, address: Address) -> tuple[Geo | None, tuple[str, ...]]:
        """As ``lookup``, at a multiple of its speed; and the keys whose value the database cannot hold: a city in another alphabet, NaN, NUL."""
        found = self._find(address)
        return (None, ()) if found is None or not _has_a_place(address) else self._planned(found)

    def knows(self, address: Address) -> bool:
        """Whether ``lookup`` would find anything, without asking for all fields where the country says so."""
        if GeoKey.COUNTRY_CODE in self.keys and self._source.has_country(address):
            return _has_a_place(address)
        return self.look(address)[0] is not None

    def _planned(self, found: Geo | None) -> tuple[Geo | None, tuple[str, ...]]:
        if found is None:
            return None, ()
        planned = {key: value for key, value in found.items() if key in self.keys}
        if all(_is_plain(value) for value in planned.values()):
            return planned or None, ()
        lost = tuple(key for key, value in planned.items() if not is_storable(value, self._codec))
        return {key: value for key, value in planned.items() if key not in lost} or None, lost

    def close(self) -> None:
        """Give the source back; the second time does nothing."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _has_a_place(address: Address) -> bool:
    """Whether what a file says of it may be said: nothing is known of a private address, or of one out of a tunnel."""
    return classify(address) is Kind.PUBLIC and not is_tunnelled(address)


def _is_plain(value: str | float) -> bool:
    """Whether any database can hold it; nearly always, and told sooner."""
    return value.isascii() and "\0" not in value if isinstance(value, str) else isfinite(value)


def is_storable(value: str | float, codec: str) -> bool:
    """Whether jsonb of a database with that encoding (Python's name for it) can hold *value*."""
    if not isinstance(value, str):
        return isfinite(value)
    try:
        value.encode(codec)
    except UnicodeEncodeError:
        return False
    return "\0" not in value
