"""Place judge: is the place beside a raw value that of the value, looked up again from the text?

Used as long as the text is there: every place that is read comes to the client.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import Address, Reason
from backfill.database.columns import widths
from backfill.database.decodable import if_decodable
from backfill.geo.geo_database import GeoDatabase
from backfill.geo.source import Geo
from backfill.ledger.counts import Count
from backfill.plan import Job, Place
from backfill.verify.classification import spelled
from backfill.verify.places import kept_place

REMEMBERED = 1 << 16  # places: the same addresses come again in every range
COUNTED = (Count.GEO, Count.GEO_MISSING, Count.OWN_PLACE_KEPT, Count.GEO_HAS_NO_PLACE)
# Of a row with a text: its place, NULL where it has none, "" for what is no object, "?" for what cannot be sent.
PLACE = sql.SQL("""
    , case when event.{raw} is null then null when {is_other} then '' when {is_place} then {sent} end as place
""")
NONE = {"place": sql.SQL(""), "by_place": sql.SQL(""), "said_place": sql.SQL("null::text")}


@dataclass
class PlaceJudge:
    """The judge of one job."""

    job: Job
    where: Place
    geo: GeoDatabase
    widths: Mapping[str, int] = field(default_factory=dict)  # of the columns by key

    def __post_init__(self) -> None:
        """Each address is looked up once, as far as memory goes."""
        self._look_up = lru_cache(REMEMBERED)(self._looked_up)

    def begin(self, connection: Connection) -> None:
        """How wide its columns are."""
        if self.where.by_key:
            self.widths = widths(connection, self.job, self.where.columns)

    def names(self) -> dict[str, sql.Composable]:
        """Parts of a statement that groups rows: what it reads, groups by and returns; ``NONE`` where no place is kept."""
        kept = kept_place(self.where)
        sent = if_decodable(sql.SQL("({})::text").format(kept.pop("place")), sql.SQL("'?'"))
        place = PLACE.format(raw=sql.Identifier(self.job.raw), sent=sent, **kept)
        return {"place": place, "by_place": sql.SQL(", place"), "said_place": sql.SQL("place")}

    def classify(self, text: str | None, place: str | None) -> Iterator[Count]:
        """What a row with that *text* and *place* adds to; the text may be one that cannot be decoded (None)."""
        address = spelled(text)
        right = None if isinstance(address, Reason) else self._look_up(address)
        if place:
            yield Count.GEO
            if _read(place) != right:
                yield Count.OWN_PLACE_KEPT
        elif right is not None:
            yield Count.GEO_MISSING if place is None else Count.GEO_HAS_NO_PLACE

    def _looked_up(self, address: Address) -> Geo | None:
        """The place, as far as the columns can hold it."""
        found = self.geo.lookup(address)
        if found is None or not self.where.by_key:
            return found
        return {
            key.value: found[key]
            for key, name in self.where.by_key
            if key in found and len(str(found[key])) <= self.widths.get(name, len(str(found[key])))
        } or None


def _read(place: str) -> object:
    """The *place*; False for what cannot be read: bytes without a meaning, a number of thousands of digits, a nest of arrays."""
    try:
        return json.loads(place)
    except (ValueError, RecursionError):
        return False
