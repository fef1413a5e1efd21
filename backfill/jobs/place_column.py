"""Place column: the place of an address, in a jsonb column beside the value.

It is written by the UPDATE that takes the text away, or that writes what stands for it. Like all SQL of writers it may
stand under the application's search_path. The row is ``event``, its entry in the map is ``map``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.blocks import Range
from backfill.database.connection import rows, value
from backfill.database.quoting import regclass, table
from backfill.database.row_key import row_key
from backfill.database.write_check import now_at
from backfill.jobs.row_needs import lacks_place, usable
from backfill.ledger import claims, lost_fields
from backfill.ledger.batches import Batch
from backfill.plan import Job

SET_PLACE = sql.SQL("""
    {column} = case when {is_known} and {lacks} then map.geo else {place} end
""")
# What a trigger can do to a place: before the row is stored, and after.
TRIGGERS = sql.SQL("""
    select coalesce(bool_or(tgtype & 2 <> 0), false), coalesce(bool_or(tgtype & 2 = 0), false)
      from pg_trigger
     where tgrelid = {table} and not tgisinternal and tgenabled in ('O', 'A') and tgtype & 16 <> 0
""")
# The row as it was. One that somebody wrote meanwhile is not found, and waits for the next pass or sweep.
BEFORE = sql.SQL("""
          , (select before.ctid as lay_at, coalesce({usable}, false) as had_place
               from {table} as before where {in_range}) as before
""")
SAME_ROW = sql.SQL("and before.lay_at OPERATOR(pg_catalog.=) event.ctid")
# Of the row as it is stored. A trigger that gives a place of its own is the application, which wins; one that takes the
# application's place away because we wrote has made a mistake.
STATE = sql.SQL("""
    case when {is_known} and coalesce({place} OPERATOR(pg_catalog.=) {known}, false) then 'placed'
         when coalesce({usable}, false) then 'own'
         when {is_known} and {lacks} or {had_place} then 'changed'
         else 'none' end
""")
RETURNED = sql.SQL(", {state} as place, {key} as row_key, {lost} as lost{lies_at}")
COUNTED = sql.SQL("""
    pg_catalog.count(*),
    pg_catalog.count(*) filter (where is_right and place OPERATOR(pg_catalog.<>) 'changed'),
    pg_catalog.count(*) filter (where place OPERATOR(pg_catalog.=) 'placed'),
    pg_catalog.count(*) filter (where place OPERATOR(pg_catalog.=) 'own'),
    pg_catalog.array_agg(array[coalesce(row_key, ''), lost])
        filter (where lost is not null and place OPERATOR(pg_catalog.<>) 'own')
""")
COUNTED_AND_AT = sql.SQL("""{counted},
    pg_catalog.array_agg(lies_at) filter (where place OPERATOR(pg_catalog.=) any (array['placed', 'own']))
""").format(counted=COUNTED)
GONE = sql.SQL("select count(*) from {table} as event where {now_at} and not coalesce({usable}, false)")
COUNTED_ALONE = sql.SQL("pg_catalog.count(*), pg_catalog.count(*) filter (where is_right)")


@dataclass(frozen=True)
class PlaceColumn:
    """The column of one job."""

    job: Job
    column: str
    before: bool = False  # a trigger may change the place before the row is stored
    after: bool = False  # or afterwards

    def fitted(self, connection: Connection) -> Self:
        """The same, as the table takes it: any place fits into jsonb, and triggers may change it."""
        ((before, after),) = rows(connection, TRIGGERS.format(table=regclass(self.job)))
        return replace(self, before=before, after=after)

    @property
    def _place(self) -> sql.Composable:
        """What the row has, as jsonb."""
        return self._place_of("event")

    def _place_of(self, alias: str) -> sql.Composable:
        return sql.Identifier(alias, self.column)

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
        written, or there was one. ``none``: none is known, or the column holds no object.
        """
        place = self._place
        return STATE.format(
            place=place,
            known=self._known,
            usable=usable(place),
            lacks=self.lacks,
            is_known=self.is_known,
            had_place=sql.SQL("before.had_place" if self.before else "false"),
        )

    def as_it_was(self, span: Range) -> sql.Composable:
        """What FROM says besides, where a trigger may take away a place that the row had; for ``same_row``."""
        if not self.before:
            return sql.SQL("")
        return BEFORE.format(
            usable=usable(self._place_of("before")), table=table(self.job), in_range=span.holds("before")
        )

    @property
    def same_row(self) -> sql.Composable:
        """What WHERE says of it."""
        return SAME_ROW if self.before else sql.SQL("")

    def returned(self, connection: Connection) -> sql.Composable:
        """What RETURNING says of it, for ``COUNTED``."""
        return RETURNED.format(
            state=self.state,
            key=row_key(connection, self.job).text(),
            lost=self.lost,
            lies_at=sql.SQL(", event.ctid::pg_catalog.text as lies_at" if self.after else ""),
        )

    @property
    def counted(self) -> sql.Composable:
        """``COUNTED``; and where the rows lie that have a place, as long as a trigger may yet take it away."""
        return COUNTED_AND_AT if self.after else COUNTED

    def gone(self, connection: Connection, lie_at: list[str] | None) -> int:
        """How many of the rows that lay there lost their place to a trigger that came afterwards."""
        if not lie_at:
            return 0
        statement = GONE.format(
            table=table(self.job), now_at=now_at(self.job, [], lie_at), usable=usable(self._place)
        )
        return int(value(connection, statement))

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
        lost_fields.note(connection, self.job, self._of_columns(lost or ()))

    def _of_columns(self, lost: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
        """Those of the keys that were to be written."""
        return lost
