"""Into: the hash of a raw value goes into another column of its row; the raw column is dropped in the end.

A row is finished when that column holds anything: what the application wrote itself is never overwritten here, and
whether it is right, ``verify`` says. A text that is no address gets nothing, and waits in the quarantine.

Where the job keeps the place of each address, a row gets it together with its hash; one that has a hash already, in the
last pass over its blocks, or in a sweep.
"""

from dataclasses import dataclass, replace

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.database.writing import writes
from backfill.errors import ResultChanged
from backfill.jobs import batch_map, index_hint
from backfill.jobs.in_pass import in_pass
from backfill.jobs.passes import Pass
from backfill.jobs.place_column import COUNTED_ALONE, PlaceColumn
from backfill.jobs.place_columns import place_of
from backfill.jobs.row_needs import NOTHING, linked, may_be_address, raw_text, short, unlinked
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.plan import IntoJob, Plan

# Under the application's search_path, as all that writes its table: every operator and function is qualified.
# What RETURNING sees is the row as it is stored: after a BEFORE trigger, cut or padded by its type.
WRITE = sql.SQL("""
    with written as (
        update {table} as event
           set {assignments}
          from {map} as map{as_it_was}
         where map.raw OPERATOR(pg_catalog.=) {text}
           and {usable}
           and {unfinished}
           and {in_range}
           and {in_pass} {same_row}
        returning coalesce((event.{into}::pg_catalog.text collate pg_catalog."C") OPERATOR(pg_catalog.=) map.hash, false)
            as is_right{returned}
    )
    select {counted} from written
""")
PLACE = sql.SQL("""
    with written as (
        update {table} as event
           set {assignments}
          from {map} as map
         where map.raw OPERATOR(pg_catalog.=) {text}
           and {usable}
           and {lacks_place}
           and {in_range}
        returning true as is_right{returned}
    )
    select {counted} from written
""")
WITH_KNOWN_PLACE = sql.SQL("""
    exists (select from {map} as map
             where map.raw OPERATOR(pg_catalog.=) {text} and map.hash is not null and {is_known})
""")
# What a sweep could do beyond hashes: only rows that lack a place are looked up.
WITHOUT_PLACE = sql.SQL("""
    ({lacks_place} and {short}
     and coalesce((select map.hash is not null and {is_known} from {map} as map where map.raw = {text}), {may_be}))
""")


@dataclass(frozen=True)
class IntoWriter:
    """Writes the hash beside the raw value."""

    job: IntoJob
    schema: str  # of the ledger

    @property
    def carries(self) -> tuple[sql.Composable, ...]:
        """The hash, and the place where that is kept."""
        return (sql.Identifier("map", "hash"), *(self.place.carries if self.place else ()))

    @property
    def place(self) -> PlaceColumn | None:
        """Where the place of the address goes, if anywhere."""
        return place_of(self.job)

    @property
    def _lacks_place(self) -> sql.Composable:
        """A text and a hash, and no place."""
        return sql.SQL("({} and {})").format(linked(self.job), self.place.lacks if self.place else NOTHING)

    @property
    def unfinished(self) -> sql.Composable:
        """A text and no hash."""
        return unlinked(self.job)

    @property
    def finished(self) -> sql.Composable:
        """A text and a hash, whoever wrote it."""
        return linked(self.job)

    @property
    def needs_text(self) -> sql.Composable:
        """No hash, or no place."""
        if self.place is None:
            return self.unfinished
        return sql.SQL("({} or {})").format(self.unfinished, self._lacks_place)

    @property
    def usable(self) -> sql.Composable:
        """It names an address."""
        return sql.SQL("map.hash is not null")

    @property
    def assignment(self) -> sql.Composable:
        """The hash; a text is assigned to any text-like type, and one that is too long is refused and not cut."""
        return sql.SQL("{} = map.hash").format(sql.Identifier(self.job.into))

    def left(self, place: PlaceColumn) -> sql.Composable:
        """Unfinished, or without its *place* although that is known."""
        known = WITH_KNOWN_PLACE.format(
            map=address_map.name(self.schema), text=raw_text(self.job), is_known=place.is_known
        )
        return sql.SQL("({} or {} and {})").format(self.unfinished, self._lacks_place, known)

    def more(self, connection: Connection, plan: Plan) -> sql.Composable:
        """A row with a hash and without its place. A text that the map lacks may have one as far as anybody knows."""
        if self.place is None:
            return NOTHING
        place = self.place.fitted(connection)
        text = raw_text(self.job)
        return WITHOUT_PLACE.format(
            lacks_place=self._lacks_place,
            is_known=place.is_known,
            short=short(text),
            may_be=may_be_address(text),
            map=address_map.name(self.schema),
            text=text,
        )

    def write(self, connection: Connection, plan: Plan | None, batch: Batch, now: Pass) -> int:
        """Hashes, and places. Raises ``ResultChanged`` where a row does not hold what was written."""
        place = self.place.fitted(connection) if self.place else None
        texts = batch_map.texts(connection, self, batch, now)
        unchanged = index_hint.as_they_are(index_hint.unchanged(connection, self.job))
        names = {
            "table": table(self.job),
            "map": texts,
            "text": raw_text(self.job),
            "in_range": now.range.holds("event"),
            "counted": place.counted if place else COUNTED_ALONE,
        }
        assignments = [self.assignment, *(place.assignments if place else ()), *unchanged]
        statement = WRITE.format(
            assignments=sql.SQL(", ").join(assignments),
            usable=self.usable,
            unfinished=self.unfinished,
            in_pass=in_pass(now),
            into=sql.Identifier(self.job.into),
            returned=place.returned(connection) if place else sql.SQL(""),
            as_it_was=place.as_it_was(now.range) if place else sql.SQL(""),
            same_row=place.same_row if place else sql.SQL(""),
            **names,
        )
        written = self._write(connection, batch, statement, place)
        if place is not None and now.last:
            had_none = replace(place, before=False)
            statement = PLACE.format(
                assignments=sql.SQL(", ").join([*place.assignments, *unchanged]),
                usable=sql.SQL("{} and {}").format(self.usable, place.is_known),
                lacks_place=self._lacks_place,
                returned=had_none.returned(connection),
                **names,
            )
            written += self._write(connection, batch, statement, place, alone=True)
        return written

    def _write(
        self,
        connection: Connection,
        batch: Batch,
        statement: sql.Composed,
        place: PlaceColumn | None,
        *,
        alone: bool = False,
    ) -> int:
        with writes(connection, self.job):
            ((written, right, *places),) = rows(connection, statement)
        if place is not None and place.after:
            right -= place.gone(connection, places.pop())
        if right < written:
            raise ResultChanged(job=self.job.label, changed=written - right, written=written)
        if place is not None:
            place.note(connection, batch, *places, alone=alone)
        return int(written)
