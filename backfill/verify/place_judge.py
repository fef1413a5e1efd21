"""Place judge: is the place beside a raw value that of the value, looked up again from the text?

Used as long as the text is there: every place that is read comes to the client.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from psycopg2 import sql

from backfill.addresses import Reason
from backfill.geo.geo_database import GeoDatabase
from backfill.ledger.counts import Count
from backfill.plan import Job
from backfill.verify.classification import spelled
from backfill.verify.places import column_place

REMEMBERED = 1 << 16  # places: the same addresses come again in every range
COUNTED = (Count.GEO, Count.GEO_MISSING, Count.OWN_PLACE_KEPT, Count.GEO_HAS_NO_PLACE)
# Of a row with a text: its place, NULL where it has none, "" for what is no object.
PLACE = sql.SQL("""
    , case when event.{raw} is null then null when {is_other} then '' when {is_place} then {column}::jsonb::text end as place
""")
NONE = {"place": sql.SQL(""), "by_place": sql.SQL(""), "said_place": sql.SQL("null::text")}


@dataclass
class PlaceJudge:
    """The judge of one column."""

    job: Job
    geo: GeoDatabase

    def __post_init__(self) -> None:
        """Each address is looked up once, as far as memory goes."""
        self._look_up = lru_cache(REMEMBERED)(self.geo.lookup)

    def names(self) -> dict[str, sql.Composable]:
        """Parts of a statement that groups rows: what it reads, groups by and returns; ``NONE`` where no place is kept."""
        column = str(self.job.place)
        place = PLACE.format(
            raw=sql.Identifier(self.job.raw), column=sql.Identifier("event", column), **column_place(column)
        )
        return {"place": place, "by_place": sql.SQL(", place"), "said_place": sql.SQL("place")}

    def classify(self, text: str | None, place: str | None) -> Iterator[Count]:
        """What a row with that *text* and *place* adds to; the text may be one that cannot be decoded (None)."""
        address = spelled(text)
        right = None if isinstance(address, Reason) else self._look_up(address)
        if place:
            yield Count.GEO
            if json.loads(place) != right:
                yield Count.OWN_PLACE_KEPT
        elif right is not None:
            yield Count.GEO_MISSING if place is None else Count.GEO_HAS_NO_PLACE
