"""What a geo source is: something that knows the place of an address."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from backfill.addresses import Address
from backfill.plan import GeoKey

Geo: TypeAlias = dict[str, str | float]

KEYS = tuple(GeoKey)  # what a record can be asked for; the plan says which of them are written


@dataclass(frozen=True)
class GeoProvenance:
    """Where the answers come from. Runs, verifications and look-ups keep type and build."""

    path: Path
    database_type: str  # "GeoLite2-City"; two sources never share one
    build: datetime  # aware, UTC


class GeoSource:
    """An open geo database of one kind. A kind overrides ``find``, and the others where it has a better way.

    A source says what its file holds. Which addresses have a place at all, and which fields the plan and the
    target database take, is asked for all sources alike: ``GeoDatabase``.
    """

    provenance: GeoProvenance

    def find(self, address: Address) -> Geo | None:
        """The fields of *address* that the source knows, in the order of ``KEYS``; None when it knows none.

        A run asks for all its addresses by this. Raises ``GeoFileUnusable`` where the file turns out to be damaged.
        """
        raise NotImplementedError

    def find_one(self, address: Address) -> Geo | None:
        """The same for a single address, where time does not matter."""
        return self.find(address)

    def has_country(self, address: Address) -> bool:
        """Whether the country's code is known: asked often, and told sooner than all fields."""
        return "country_code" in (self.find(address) or {})

    def close(self) -> None:
        """Give back what is open; the second time does nothing."""


def present(fields: Mapping[str, str | float | None]) -> Geo | None:
    """Those of *fields* that have a value; None when none has."""
    return {key: value for key, value in fields.items() if value is not None} or None
