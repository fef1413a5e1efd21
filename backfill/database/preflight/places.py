"""Places: do live rows carry the keys that the plan writes?

A reader that builds an object from a place fails on a key that it does not know, so what the application writes
itself is what it can read. A bounded part of each table is looked at, and the finding says which. Once a run of
this plan began, commands take its keys as accepted: what it wrote looks the same.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.blocks import Range, heap_of
from backfill.database.columns import has_column
from backfill.database.connection import rows
from backfill.database.decodable import escaped
from backfill.database.preflight.finding import Finding, changes, note
from backfill.database.quoting import table
from backfill.plan import Addresses, GeoKey, Job, LinkJob, Plan
from backfill.raw_column import Table

MOST_BLOCKS = 4_096  # of a table: 32 MB, some tenths of a second
SPOTS = 16  # a table is not the same throughout; the last of them is its end
LOOKED_AT = f"geo keys of live rows (at most {MOST_BLOCKS * 8 // 1024} MB a table)"

# Many records have no city and some no country: that few places lack one says nothing about readers.
FEW = 100
ALWAYS = (GeoKey.LATITUDE, GeoKey.LONGITUDE)  # whoever writes them writes them nearly always

NEW_KEY = changes("new-geo-key")
OTHER_KEYS = note("other-geo-keys")

# A place that says something; each of its keys, and one line without a key for the places themselves.
KEYS = sql.SQL("""
    select {key}, count(*)
      from (select {place} as place from {table} as event where {in_range} offset 0) as found
     cross join lateral (
            select null as key
             union all select key from jsonb_object_keys(
                case when jsonb_typeof(found.place) = 'object' then found.place else '{{}}' end) as key) as said
     where case when jsonb_typeof(found.place) = 'object'
                then exists (select from jsonb_each_text(found.place) as one where one.value not in ('', '?')) end
     group by 1
""")


def check(connection: Connection, plan: Plan, parts: Sequence[Table]) -> Iterator[Finding]:
    """Keys that the plan writes and no live row carries; and the other way round."""
    found: Counter[str | None] = Counter()
    looked_at: dict[str, str] = {}
    for part in parts:
        place = _place(connection, part)
        if place is not None:
            looked_at[f"{part.schema_}.{part.table}"] = _read(connection, part, place, found)
    places = found.pop(None, 0)
    if not places:
        return
    scope = f"{places:,} places of {', '.join(looked_at.values())}"
    for key in plan.geo.keys:
        if not found[key.value] and (places >= FEW or key in ALWAYS):
            yield NEW_KEY(
                key.value,
                f"The plan writes the geo key {key.value}, which no live row carries ({scope}). "
                "A reader that does not know it may fail on every event that has it.",
                "Leave it out of keys under [geo] in the plan, unless the application reads it already.",
            )
    others = sorted(key for key in found if key is not None and key not in set(plan.geo.keys))
    if others:
        yield OTHER_KEYS(
            next(iter(looked_at)),
            f"Live rows carry {len(others)} geo keys that the plan does not write ({scope}): "
            f"{', '.join(map(repr, others[:8]))}.",
            "Name them under [geo] in the plan, where they can be had.",
        )


def _place(connection: Connection, part: Table) -> sql.Composable | None:
    if isinstance(part, Addresses) and has_column(connection, part, part.geo):
        return sql.Identifier("event", part.geo)
    column = part.place.column if isinstance(part, Job) and part.place is not None else None
    if column is not None and has_column(connection, part, column):  # no reader takes columns for an object
        return sql.Identifier("event", column)
    if isinstance(part, LinkJob) and part.extra is not None and has_column(connection, part, part.extra):
        return sql.SQL("({} -> 'geoip_info')").format(sql.Identifier("event", part.extra))
    return None


def _read(connection: Connection, part: Table, place: sql.Composable, found: Counter[str | None]) -> str:
    """Add the keys of that table to *found*; returns what was looked at."""
    blocks = heap_of(connection, part).blocks
    for span in _spots(blocks):
        statement = KEYS.format(
            key=escaped(sql.SQL("said.key")), place=place, table=table(part), in_range=span.holds("event")
        )
        found.update(dict(rows(connection, statement)))
    if blocks <= MOST_BLOCKS:
        return f"{part.name} (all rows)"
    return f"{part.name} ({MOST_BLOCKS:,} of {blocks:,} blocks)"


def _spots(blocks: int) -> list[Range]:
    if blocks <= MOST_BLOCKS:
        return [Range(0, blocks)] if blocks else []
    size = MOST_BLOCKS // SPOTS
    firsts = [(blocks - size) * number // (SPOTS - 1) for number in range(SPOTS)]
    return [Range(first, first + size) for first in firsts]
