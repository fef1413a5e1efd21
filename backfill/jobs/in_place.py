"""In place: a raw value becomes its hash, its pseudonym, its network or nothing, in its own column.

Four kinds of job. What they share stands in ``InPlaceWriter``: a row is finished when its value has the kind's
form, so that nothing is transformed twice, whatever is repeated; and every row that a pass writes is compared, as
the server then has it, with what the map says of the text that it had.
"""

from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import column_type
from backfill.database.connection import rows
from backfill.database.decodable import bytes_of
from backfill.database.quoting import table
from backfill.database.writing import writes
from backfill.errors import ResultChanged
from backfill.jobs import address_forms, batch_map, due, index_hint, on_duplicate
from backfill.jobs.in_pass import in_pass
from backfill.jobs.passes import Pass
from backfill.jobs.place_column import COUNTED_ALONE, PlaceColumn
from backfill.jobs.place_columns import place_of
from backfill.jobs.row_needs import may_be_address, raw_text
from backfill.ledger import address_map, prefixes
from backfill.ledger.batches import Batch
from backfill.plan import InPlaceJob, Plan

# Under the application's search_path, as all that writes its table: every operator and function is qualified.
# What RETURNING sees is the row as it is stored: after a BEFORE trigger, cut or padded by its type.
WRITE = sql.SQL("""
    with written as (
        update {table} as event
           set {assignments}
          from {source}{as_it_was}
         where {which}
           and {decided} {same_row}
        returning {is_right} as is_right{returned}
    )
    select {counted} from written
""")
NO_ENTRY = sql.SQL("(select) as no_entry")
NO_PLACE = sql.SQL("(select null::pg_catalog.jsonb as geo, null::pg_catalog.text as lost) as map")
BECOMES = sql.Identifier("map", "becomes")
WHICH = sql.SQL("{condition} and {waits} and {in_range} and {in_pass}")


@dataclass(frozen=True)
class InPlaceWriter:
    """What the four kinds share."""

    job: InPlaceJob
    schema: str

    def form_of(self, text: sql.Composable) -> sql.Composable:
        """The *text* is a result. May be NULL."""
        raise NotImplementedError

    @property
    def value(self) -> sql.Composable:
        """What the text of the entry ``map`` becomes, as text; NULL is nothing."""
        raise NotImplementedError

    @property
    def known(self) -> sql.Composable:
        """The entry is an address."""
        raise NotImplementedError

    @property
    def usable(self) -> sql.Composable:
        """The same, and its text is no result: asked here, once a text, and not of each row that has it."""
        return sql.SQL("({} and not {})").format(self.known, self._is_result(sql.Identifier("map", "raw")))

    @property
    def carries(self) -> tuple[sql.Composable, ...]:
        """What the text becomes, worked out once a text; and its place, where that is kept."""
        becomes = sql.SQL("({})::pg_catalog.text as becomes").format(self.value)
        return (becomes, *(self.place.carries if self.place else ()))

    @property
    def place(self) -> PlaceColumn | None:
        """Where the place of the address goes, if anywhere."""
        return place_of(self.job)

    @property
    def text(self) -> sql.Composable:
        """The row's value, as text."""
        return raw_text(self.job)

    @property
    def unfinished(self) -> sql.Composable:
        """A value that is no result, in a row that is due."""
        return sql.SQL("({} and not {})").format(self.waits, self._is_result(self.text))

    @property
    def waits(self) -> sql.Composable:
        """A value, in a row that is due."""
        return sql.SQL("(event.{} is not null and {})").format(
            sql.Identifier(self.job.raw), due.condition(self.job)
        )

    @property
    def finished(self) -> sql.Composable:
        """A value that is a result."""
        return sql.SQL("(event.{} is not null and {})").format(
            sql.Identifier(self.job.raw), self._is_result(self.text)
        )

    def _is_result(self, text: sql.Composable) -> sql.Composable:
        """The *text* has the form of a result, or is what the plan puts in the place of one. Never NULL, but for a NULL."""
        form = sql.SQL("coalesce({}, false)").format(self.form_of(text))
        if self.job.constant is None:
            return form
        return sql.SQL("({} OPERATOR(pg_catalog.=) {} or {})").format(
            text, sql.Literal(self.job.constant), form
        )

    @property
    def needs_text(self) -> sql.Composable:
        """Unfinished."""
        return self.unfinished

    @property
    def nothing(self) -> sql.Composable:
        """What stands for nothing: NULL, or the plan's constant."""
        return sql.Literal(self.job.constant)

    @property
    def assignment(self) -> sql.Composable:
        """The value; a text is assigned to any text-like type, and one that is too long is refused and not cut."""
        return self._assign(self.value)

    def _assign(self, value: sql.Composable) -> sql.Composable:
        return sql.SQL("{} = {}").format(sql.Identifier(self.job.raw), value)

    def more(self, connection: Connection, plan: Plan) -> sql.Composable:
        """Nothing besides."""
        return sql.SQL("false")

    def write(self, connection: Connection, plan: Plan | None, batch: Batch, now: Pass) -> int:
        """Results, and in the last pass what the plan wants of texts that are no address. Raises ``ResultChanged``."""
        texts: sql.Composable = batch_map.texts(connection, self, batch, now)
        if texts != batch_map.NAME:
            texts = sql.SQL("(select map.raw, {} from {} as map where {})").format(
                sql.SQL(", ").join(self.carries), texts, self.usable
            )
        same = sql.SQL("map.raw OPERATOR(pg_catalog.=) {}").format(self.text)
        source = sql.SQL("{} as map").format(texts)
        written = self._update(connection, batch, now, BECOMES, source, same, self.place)
        if now.last and self.job.unreadable == "nothing":
            no_entry = NO_ENTRY if self.place is None else NO_PLACE
            written += self._update(
                connection,
                batch,
                now,
                self.nothing,
                no_entry,
                sql.SQL("{} and {}").format(self._unreadable(), self.unfinished),
                self.place,
            )
        return written

    def _unreadable(self) -> sql.Composable:
        """The row's text is none that a client could make an address of, or one that it looked at in vain."""
        return sql.SQL("""
            (not {may_be} or exists (select from {map} as looked
                                      where looked.raw OPERATOR(pg_catalog.=) {text} and looked.reason is not null))
        """).format(may_be=may_be_address(self.text), map=address_map.name(self.schema), text=self.text)

    def _update(
        self,
        connection: Connection,
        batch: Batch,
        now: Pass,
        value: sql.Composable,
        source: sql.Composable,
        condition: sql.Composable,
        place: PlaceColumn | None = None,
    ) -> int:
        """One UPDATE of the pass; returns its rows."""
        is_inet = column_type(connection, self.job, self.job.raw).is_inet
        cast = sql.SQL("({})::pg_catalog.inet" if is_inet else "({})").format(value)
        place = place.fitted(connection) if place else None
        unchanged = index_hint.unchanged(connection, self.job)
        assignments = [
            self._assign(cast),
            *(place.assignments if place else ()),
            *index_hint.as_they_are(unchanged),
        ]
        which = WHICH.format(
            condition=condition,
            waits=self.waits,
            in_range=now.range.holds("event"),
            in_pass=in_pass(now),
        )
        with on_duplicate.decides(connection, self.schema, self.job, batch, value, source, which) as decided:
            statement = WRITE.format(
                table=table(self.job),
                assignments=sql.SQL(", ").join(assignments),
                source=source,
                which=which,
                decided=decided,
                is_right=self.is_right(value),
                returned=place.returned(connection) if place else sql.SQL(""),
                counted=place.counted if place else COUNTED_ALONE,
                as_it_was=place.as_it_was(now.range) if place else sql.SQL(""),
                same_row=place.same_row if place else sql.SQL(""),
            )
            with writes(connection, self.job):
                ((written, right, *places),) = rows(connection, statement)
        if place and place.after:
            right -= place.gone(connection, places.pop())
        if right < written:
            raise ResultChanged(job=self.job.label, changed=written - right, written=written)
        if place:
            place.note(connection, batch, *places)
        return int(written)

    def is_right(self, value: sql.Composable) -> sql.Composable:
        """The row holds what was to be written."""
        return sql.SQL("""
            case when ({value})::pg_catalog.text is null then event.{raw} is null
                 else coalesce({text} OPERATOR(pg_catalog.=) ({value})::pg_catalog.text, false) end
        """).format(value=value, raw=sql.Identifier(self.job.raw), text=self.text)


@dataclass(frozen=True)
class HashWriter(InPlaceWriter):
    """The hash of the plan's scheme."""

    value = sql.SQL("map.hash")
    known = sql.SQL("map.hash is not null")

    def form_of(self, text: sql.Composable) -> sql.Composable:
        """64 lower-case hex digits."""
        # Of the bytes: an expression does not see half a character at the end. That none is another than these costs 1
        # microsecond; a number of them ("{64}"), whose states are built anew for each text, 10.
        return sql.SQL("""
            (pg_catalog.octet_length({text}) OPERATOR(pg_catalog.=) 64
             and (pg_catalog.encode({bytes}, 'escape') collate pg_catalog."C") OPERATOR(pg_catalog.!~) '[^0-9a-f]')
        """).format(text=text, bytes=bytes_of(text))


@dataclass(frozen=True)
class PseudonymWriter(InPlaceWriter):
    """A pseudonym. The server knows it by its prefix; what somebody else wrote inside the prefix, the map says."""

    value = sql.SQL("map.pseudonym")
    known = sql.SQL("map.pseudonym is not null")

    def form_of(self, text: sql.Composable) -> sql.Composable:
        """The prefix, and no entry of the map that would have it replaced."""
        return sql.SQL("""
            ({has_prefix} and not exists (select from {map} as foreign_one
                                           where foreign_one.foreign_prefix
                                             and foreign_one.raw OPERATOR(pg_catalog.=) {text}))
        """).format(
            # An address that begins as pseudonyms do: a list of two, or junk, is none for all that.
            has_prefix=address_forms.begins(text, prefixes.text(self.schema)),
            map=address_map.name(self.schema),
            text=text,
        )

    @property
    def needs_text(self) -> sql.Composable:
        """Any value that is due: what has the prefix is looked at in the client, which alone can tell whose it is."""
        return sql.SQL("(event.{} is not null and {})").format(
            sql.Identifier(self.job.raw), due.condition(self.job)
        )


@dataclass(frozen=True)
class NetworkWriter(InPlaceWriter):
    """The address without its host bits, as a host."""

    known = sql.SQL("map.address is not null")

    @property
    def value(self) -> sql.Composable:
        """By the widths of the plan."""
        return address_forms.network(sql.SQL("map.address"), self.job.widths)

    def form_of(self, text: sql.Composable) -> sql.Composable:
        """An address that has no host bits."""
        return address_forms.is_network(text, self.job.widths)


@dataclass(frozen=True)
class NothingWriter(InPlaceWriter):
    """NULL, or the constant of the plan where NULL is not allowed."""

    known = sql.SQL("map.address is not null")

    @property
    def value(self) -> sql.Composable:
        """The same for every address."""
        return self.nothing

    def form_of(self, text: sql.Composable) -> sql.Composable:
        """The constant; NULL is no value at all."""
        if self.job.constant is None:
            return sql.SQL("false")
        return sql.SQL("{} OPERATOR(pg_catalog.=) {}").format(text, sql.Literal(self.job.constant))
