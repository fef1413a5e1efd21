"""Place column: the place of an address, in a jsonb column beside the value that a job rewrites.

It is written by the UPDATE that takes the text away: afterwards nothing is left to look it up by. Like all SQL of writers
it may stand under the application's search_path. The row is ``event``, its entry in the map is ``map``.
"""

from dataclasses import dataclass

from psycopg2 import sql

from backfill.jobs.row_needs import lacks_place, usable

SET_PLACE = sql.SQL("""
    {column} = case when map.geo is not null and {lacks_place} then map.geo else {place} end
""")
# Of the row as it is stored. A trigger that gives a place of its own is the application, which wins.
STATE = sql.SQL("""
    case when coalesce({place} OPERATOR(pg_catalog.=) map.geo, false) then 'placed'
         when coalesce({usable}, false) then 'own'
         when map.geo is not null and {lacks_place} then 'changed'
         else 'none' end
""")


@dataclass(frozen=True)
class PlaceColumn:
    """The column of one job."""

    column: str

    @property
    def _place(self) -> sql.Composable:
        return sql.Identifier("event", self.column)

    @property
    def carries(self) -> tuple[sql.Composable, ...]:
        """What is taken from an entry of the map: the place, and which keys of it the database cannot hold."""
        return (sql.Identifier("map", "geo"), sql.Identifier("map", "lost"))

    @property
    def assignments(self) -> tuple[sql.Composable, ...]:
        """The place, where the row has none: what the application wrote stays, as does what is no object."""
        place = self._place
        return (
            SET_PLACE.format(column=sql.Identifier(self.column), place=place, lacks_place=lacks_place(place)),
        )

    @property
    def state(self) -> sql.Composable:
        """What the row holds once it is written.

        ``placed``: the place of its address. ``own``: another one. ``changed``: none, although there is one to be
        written. ``none``: none is known, or the column holds no object.
        """
        place = self._place
        return STATE.format(place=place, usable=usable(place), lacks_place=lacks_place(place))
