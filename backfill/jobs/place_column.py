"""Place column: the place of an address, in a jsonb column beside the value.

It is written by the UPDATE that takes the text away, or that writes what stands for it. Like all SQL of writers it may
stand under the application's search_path. The row is ``event``, its entry in the map is ``map``.
"""

from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.row_key import row_key
from backfill.jobs.row_needs import lacks_place, usable
from backfill.ledger import claims, lost_fields
from backfill.ledger.batches import Batch
from backfill.plan import Job

SET_PLACE = sql.SQL("""
    {column} = case when {is_known} and {lacks} then map.geo else {place} end
""")
# Of the row as it is stored. A trigger that gives a place of its own is the application, which wins.
STATE = sql.SQL("""
    case when {is_known} and coalesce({place} OPERATOR(pg_catalog.=) {known}, false) then 'placed'
         when coalesce({usable}, false) then 'own'
         when {is_known} and {lacks} then 'changed'
         else 'none' end
""")
RETURNED = sql.SQL(", {state} as place, {key} as row_key, {lost} as lost")
COUNTED = sql.SQL("""
    pg_catalog.count(*),
    pg_catalog.count(*) filter (where is_right and place OPERATOR(pg_catalog.<>) 'changed'),
    pg_catalog.count(*) filter (where place OPERATOR(pg_catalog.=) 'placed'),
    pg_catalog.count(*) filter (where place OPERATOR(pg_catalog.=) 'own'),
    pg_catalog.array_agg(array[coalesce(row_key, ''), lost])
        filter (where lost is not null and place OPERATOR(pg_catalog.<>) 'own')
""")
COUNTED_ALONE = sql.SQL("pg_catalog.count(*), pg_catalog.count(*) filter (where is_right)")


@dataclass(frozen=True)
class PlaceColumn:
    """The column of one job."""

    job: Job
    column: str

    def fitted(self, connection: Connection) -> "PlaceColumn":
        """The same, as the table takes it: any place fits into jsonb."""
        return self

    @property
    def _place(self) -> sql.Composable:
        """What the row has, as jsonb."""
        return sql.Identifier("event", self.column)

    @property
    def _known(self) -> sql.Composable:
        """What the entry has, as the row is to have it."""
        return sql.Identifier("map", "geo")

    @property
    def lost(self) -> sql.Composable:
        """Keys of the place that cannot be written, with commas; NULL where all can."""
        return sql.Identifier("map", "lost")

    @property
    def carries(self) -> tuple[sql.Composable, ...]:
        """What is taken from an entry of the map: the place, and which keys of it the database cannot hold."""
        return (sql.Identifier("map", "geo"), sql.Identifier("map", "lost"))

    @property
    def is_known(self) -> sql.Composable:
        """The entry has a place."""
        return sql.SQL("map.geo is not null")

    @property
    def lacks(self) -> sql.Composable:
        """The row has none, and could take one: what the application wrote stays, as does what is no object."""
        return lacks_place(self._place)

    @property
    def assignments(self) -> tuple[sql.Composable, ...]:
        """What SET says of the place: nothing changes where the row has one, or none is known."""
        column = sql.Identifier(self.column)
        return (SET_PLACE.format(column=column, place=self._place, lacks=self.lacks, is_known=self.is_known),)

    @property
    def state(self) -> sql.Composable:
        """What the row holds once it is written.

        ``placed``: the place of its address. ``own``: another one. ``changed``: none, although there is one to be
        written. ``none``: none is known, or the column holds no object.
        """
        place = self._place
        return STATE.format(
            place=place, known=self._known, usable=usable(place), lacks=self.lacks, is_known=self.is_known
        )

    def returned(self, connection: Connection) -> sql.Composable:
        """What RETURNING says of it, for ``COUNTED``."""
        return RETURNED.format(state=self.state, key=row_key(connection, self.job).text(), lost=self.lost)

    def note(
        self,
        connection: Connection,
        batch: Batch,
        placed: int,
        own: int,
        lost: list[list[str]] | None,
        *,
        alone: bool = False,
    ) -> None:
        """Put on record what ``COUNTED`` says, in the transaction that wrote it. *alone*: nothing else was written."""
        claims.count_places(connection, batch, placed=placed, own=own, alone=placed if alone else 0)
        lost_fields.note(connection, self.job, lost or ())
