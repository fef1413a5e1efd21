"""Events: does every row with a raw value have the right link, and geo where its address resolves?

How their ranges are read, and which rows come to the client, stands in ``reading``; what they came to
is summed up here.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import MAX_LENGTH, Reason
from backfill.database.blocks import Range
from backfill.database.columns import column_type
from backfill.database.connection import execute, rows, value
from backfill.database.decodable import decodable
from backfill.database.nullable import discardable
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.database.shown_key import shown_keys
from backfill.geo.geo_database import GeoDatabase
from backfill.ledger import runs
from backfill.ledger.counts import CLASSES, Count, in_order
from backfill.ledger.coverage_record import CoverageRecord, Evidence, Kind
from backfill.ledger.verification_ranges import RangeCounts
from backfill.plan import Addresses, LinkJob
from backfill.verify import dropping, forms, reading, reasons
from backfill.verify.classification import Suspect, canonical, classify, spelled, state
from backfill.verify.judge import Ground
from backfill.verify.places import has_place

COUNTED = (
    Count.ROWS,
    Count.RAW,
    Count.NO_ADDRESS,
    *CLASSES,
    Count.LINKED_WITHOUT_TEXT,
    Count.GEO_MISSING_WITHOUT_TEXT,
    Count.HASH_WRONG,
    Count.HASH_MISSING,
    Count.GEO_MISSING,
    Count.GEO_HAS_NO_PLACE,
)
REMEMBERED = 1 << 16  # addresses whose place was looked up: the same few come again in every range
AMISS = (Count.WRONG, Count.LINKED_TO_SENTINEL, Count.DANGLING)  # linked to what the text does not spell

SINCE = sql.SQL("""
    select count(*) from {table} as event
     where {in_range} and event.{raw} is not null and {time} > {run_ended}
""")

WAITING = sql.SQL("select coalesce(sum(rows), 0) from {quarantine} where job = %s and decision_id is null")

LINKED_AMISS = sql.SQL("""
    select {handle}, case when {decodable} then left({text}, {shown}) end, abbrev(known.{address})
      from {table} as event
      left join {addresses} as known on known.{address_key} {equals} event.{link}
     where {in_range} and event.{link} is not null
       and {text} is distinct from abbrev(known.{address}) and event.{raw} is not null
""")

# When the raw column is gone: a link still leads to an address with a hash of the right form.
LINKS_ONLY = sql.SQL("""
    select count(*), count(event.{link}),
           count(event.{link}) filter (where known.{hash} !~ '^[0-9a-f]{{64}}$' or known.{hash} is null)
      from {table} as event
      left join {addresses} as known on known.{address_key} {equals} event.{link}
     where {in_range}
""")


@dataclass
class EventVerifier:
    """What the passes over one event table need: the judge of links."""

    schema: str
    addresses: Addresses
    job: LinkJob
    geo: GeoDatabase
    number: int  # of the verification
    run_ended: str | None = None  # when the last run of this table ended
    fingerprint: str = ""
    _last: CoverageRecord | None = field(
        default=None, init=False
    )  # full, from before the raw column was dropped
    _text: sql.Composable | None = field(default=None, init=False)

    @classmethod
    def of(cls, ground: Ground, job: LinkJob) -> "EventVerifier":
        """The judge of *job* in a verification, whose plan has an address table."""
        if ground.geo is None:
            raise TypeError("links are judged with a geo database")
        return cls(
            ground.schema,
            ground.plan.addresses,
            job,
            ground.geo,
            ground.number,
            fingerprint=ground.fingerprint,
        )

    def begin(self, connection: Connection) -> None:
        """Whether the raw column is there. Raises ``SchemaUnfit`` where it is gone and was never proved."""
        self.run_ended = runs.last_success(connection, self.job.identity)
        self._last = dropping.last_proof(connection, self.job, self.fingerprint)

    @property
    def asks_hashes(self) -> bool:
        """As long as there are texts to compare with the linked addresses."""
        return self._last is None

    @cached_property
    def resolves(self) -> Callable[[str], bool]:
        """Whether the geo database has a place for the address that a text spells."""
        knows = self.geo.knows

        def resolves(text: str) -> bool:
            address = canonical(text)
            return not isinstance(address, Reason) and knows(address)

        return lru_cache(REMEMBERED)(resolves)

    def text(self, connection: Connection) -> sql.Composable:
        """The raw value of ``event`` as text, letter for letter; as the server prints it where it is an ``inet``."""
        if self._text is None:
            self._text = forms.value_text(connection, self.job)
        return self._text

    def _names(self, connection: Connection) -> dict[str, sql.Composable]:
        """For the statements of this file."""
        job, part = self.job, self.addresses
        run_ended: sql.Composable = sql.SQL("null")
        if job.time and self.run_ended:
            run_ended = sql.SQL("{}::timestamptz").format(sql.Literal(self.run_ended))
        return {
            "table": table(job),
            "handle": row_key(connection, job).handle(),
            "raw": sql.Identifier(job.raw),
            "text": self.text(connection),
            "decodable": decodable(sql.Identifier("event", job.raw)),
            "link": sql.Identifier(job.link),
            "addresses": table(part),
            "address": sql.Identifier(part.address),
            "address_key": sql.Identifier(part.key),
            "known_place": has_place(sql.Identifier("known", part.geo)),
            "hash": sql.Identifier(part.hash),
            "time": sql.Identifier("event", job.time) if job.time else sql.SQL("null::text"),
            "run_ended": run_ended,
            "odd": sql.Identifier(self.schema, "verification_addresses"),
            "quarantine": sql.Identifier(self.schema, "quarantine"),
            "number": sql.Literal(self.number),
            "shown": sql.Literal(MAX_LENGTH + 1),
        }

    def classify(self, suspect: Suspect) -> list[Count]:
        """All counts that such a row adds to."""
        return classify(suspect, self.addresses.sentinel, self.resolves)

    def read(
        self, connection: Connection, span: Range, slot: AbstractContextManager[Any], *, hashes_amiss: bool
    ) -> RangeCounts:
        """Judge one range. *slot*: to ask the server in."""
        if self._last is not None:
            with slot:
                return self._read_links(connection, span)
        kind = column_type(connection, self.addresses, self.addresses.key)
        names = (
            self._names(connection)
            | reading.geo_names(self.job)
            | {"in_range": span.holds("event"), "newest": reading.NEWEST, "equals": kind.equals}
        )
        if hashes_amiss:
            names |= reading.with_hashes(names | {"key_type": sql.SQL(kind.name)})
        else:
            names |= reading.without_hashes()
        with slot:
            found = execute(connection, reading.COUNT.format(**names))
        with found:
            held = reading.classified(found, self.classify)
        since = 0
        if held.late:  # few ranges are: counted apart, not in every row
            since = value(connection, SINCE.format(**names))
        return RangeCounts(
            counts={
                **held.counts,
                Count.ROWS: held.rows,
                Count.RAW: held.raw,
                Count.LINKED_WITHOUT_TEXT: held.link_only,
                Count.GEO_MISSING_WITHOUT_TEXT: held.bare,
            },
            quarantined=held.quarantined,
            newest_raw=held.newest,
            since_run=since,
            wrong_keys=self._wrong_keys(connection, span) if any(map(held.counts.get, AMISS)) else (),
            other_spellings=held.others,
            checksum=held.checksum,
        )

    def amiss(self, connection: Connection, asked: sql.Composable) -> Iterator[tuple[str, str | None, Count]]:
        """Handle, text (none that cannot be decoded) and class of rows that are linked to what their text does not spell.

        *asked*: a condition on ``event``, which says of which rows.
        """
        kind = column_type(connection, self.addresses, self.addresses.key)
        statement = LINKED_AMISS.format(in_range=asked, equals=kind.equals, **self._names(connection))
        for handle, raw, linked in rows(connection, statement):
            found = Count.DANGLING if linked is None else state(spelled(raw), linked, self.addresses.sentinel)
            if found in AMISS:
                yield handle, raw, found

    def _wrong_keys(self, connection: Connection, span: Range) -> tuple[str, ...]:
        if not row_key(connection, self.job).columns:
            return ()
        return dropping.shown(
            (key for key, _, _ in self.amiss(connection, span.holds("event"))),
            shown_keys(connection, self.job),
        )

    def verdict(self, connection: Connection, held: list[RangeCounts]) -> CoverageRecord:
        """The table's record, from what its ranges held."""
        if self._last is not None:
            return self._recheck(held, self._last)
        sums, quarantined, checksum = dropping.summed(held)
        sums[Count.NO_ADDRESS] = sums[Count.ROWS] - sums[Count.RAW]
        counts = in_order({count: sums[count] for count in COUNTED})
        since_run = sum(one.since_run for one in held)
        newest = dropping.newest_raw(connection, self.job, held)
        notes = dropping.still_written(connection, self.job, since_run, newest)
        notes += reasons.shortfall(
            counts[Count.GEO_MISSING_WITHOUT_TEXT],
            "row that is linked and holds no text lacks the geo that its address has",
            "rows that are linked and hold no text lack the geo that their address has",
            "`backfill run`",
        )
        listed, undecided = (
            int(value(connection, WAITING.format(**self._names(connection)), (part.identity,)))
            for part in (self.job, self.addresses)
        )
        discard = bool(counts[Count.QUARANTINED]) and discardable(connection, self.job)
        amiss = reasons.of_events(
            self.job,
            self.addresses,
            counts,
            discard=discard,
            listed=listed,
            undecided=undecided,
            named=bool(row_key(connection, self.job).columns),
        )
        others = sum(one.other_spellings for one in held)
        return CoverageRecord(
            job=self.job.identity,
            table=self.job.label,
            kind=Kind.EVENTS,
            covered=not amiss,
            evidence=Evidence(other_spellings=f"{others}/{checksum}"),  # as conditions.links() counts it
            counts=counts,
            reasons=tuple(amiss),
            raw_rows=counts[Count.RAW],
            newest_raw=newest,
            quarantined=quarantined,
            wrong_keys=tuple(key for one in held for key in one.wrong_keys)[: dropping.KEYS_SHOWN],
            notes=tuple(notes),
            since_run=since_run if self.job.time and self.run_ended else None,
        )

    def _read_links(self, connection: Connection, span: Range) -> RangeCounts:
        """One range of a table whose raw column is gone: do its links still lead somewhere?"""
        kind = column_type(connection, self.addresses, self.addresses.key)
        statement = LINKS_ONLY.format(
            in_range=span.holds("event"), equals=kind.equals, **self._names(connection)
        )
        ((total, linked, broken),) = rows(connection, statement)
        return RangeCounts(counts={Count.ROWS: total, Count.RIGHT: linked, Count.HASH_WRONG: broken})

    def _recheck(self, held: list[RangeCounts], last: CoverageRecord) -> CoverageRecord:
        """A table whose raw column is gone: its *last* full record, its links checked again."""
        sums, *_ = dropping.summed(held)
        amiss = reasons.shortfall(
            sums[Count.HASH_WRONG],
            "row is linked to an address without a proper hash",
            "rows are linked to an address without a proper hash",
            "look at the application",
        )
        return CoverageRecord(
            job=self.job.identity,
            table=self.job.label,
            kind=Kind.EVENTS,
            covered=last.covered and not amiss,
            counts={
                Count.ROWS: sums[Count.ROWS],
                Count.NO_ADDRESS: sums[Count.ROWS] - sums[Count.RIGHT],
                Count.RIGHT: sums[Count.RIGHT],
                Count.HASH_WRONG: sums[Count.HASH_WRONG],
            },
            reasons=tuple(amiss),
            raw_rows=0,
            proved=last.finished,
        )
