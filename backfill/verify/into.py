"""Into: is the hash beside every raw value that value's, recomputed in the client from the text?

The server knows no salt, so every distinct pair of text and hash comes to the client, of every row that is read.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import MAX_LENGTH, Reason, canonical_text
from backfill.database.blocks import Range
from backfill.database.columns import has_column
from backfill.database.connection import driver, rows
from backfill.database.decodable import decodable
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.database.shown_key import shown_keys
from backfill.errors import SchemaUnfit
from backfill.ledger import quarantine, runs
from backfill.ledger.counts import INTO_CLASSES, Count, in_order
from backfill.ledger.coverage_record import CoverageRecord, Evidence, Kind
from backfill.ledger.verification_ranges import RangeCounts
from backfill.plan import IntoJob
from backfill.verify import dropping, forms, place_judge, reasons
from backfill.verify.classification import spelled
from backfill.verify.confirmation import UNCONFIRMED, Confirmation
from backfill.verify.judge import Ground
from backfill.verify.place_judge import PlaceJudge

FETCHED = 10_000  # pairs at a time: of a million, the client holds no more
REMEMBERED = 1 << 16  # hashes: the same addresses come again in every range
DIGITS = frozenset("0123456789abcdef")
HASH_LENGTH = 64

# A group for each distinct pair. Of a text the checksum has eight bits of its hash, as in ``gates.pairs``: they tell
# that it was changed, and cannot tell an address. The inner query is not flattened (offset 0), or each row would work
# out its parts several times.
PAIRS = sql.SQL("""
    select bare, text, hashed, count(*), {since}, {said_place},
           sum(hash_record_extended(row(stored, hashtext(whole) & 255), 0)) filter (where not bare),
           case when row_number() over () = 1 then (max(max(time) filter (where not bare)) over ())::text end
      from (select event.{raw} is null as bare, event.{raw}::text collate "C" as whole,
                   {into} as stored, {time} as time,
                   case when event.{raw} is not null and {decodable} then left({text}, {shown}) end as text,
                   case when {into} is null then null
                        when event.{raw} is not null and {into_decodable} then left({into}, {digits})
                        else '' end as hashed{place}
              from {table} as event
             where {in_range}
            offset 0) as pair
     group by bare, text, hashed{by_place}
""")
SINCE = sql.SQL("count(*) filter (where not bare and time > {}::timestamptz)")
ROWS = sql.SQL("""
    select {handle}, case when {decodable} then left({text}, {shown}) end,
           case when {into_decodable} then left({into}, {digits}) else '' end
      from {table} as event
     where {asked} and event.{raw} is not null and event.{into_column} is not null
""")
# When the raw column is gone: a hash still has its form.
HASHES_ONLY = sql.SQL("""
    select count(*), count(event.{into_column}), count(event.{into_column}) filter (where not {is_hash})
      from {table} as event where {in_range}
""")


class Pair(NamedTuple):
    """Rows of one text and one hash."""

    bare: bool  # no raw value
    text: str | None  # its first characters: one more than an address may have; None: it cannot be decoded
    hashed: str | None
    number: int
    since: int  # written after the last run ended
    place: str | None  # as JSON; None: there is none; "": no object; of a job that keeps no place: nothing
    checksum: int | None
    newest: str | None  # of all, on one of the groups


class HashedRow(NamedTuple):
    """A row with a text and a hash."""

    handle: str  # by which it is found again: ``row_key``
    found: Count  # its class
    hashed: str  # its first characters: one more than a hash has
    right: str | None  # what should stand there; None: the text is no address


def has_form(hashed: str) -> bool:
    """Whether it could be a hash: 64 lower-case hexadecimal digits."""
    return len(hashed) == HASH_LENGTH and DIGITS.issuperset(hashed)


def classify_pair(
    text: str | None, hashed: str | None, hasher: Callable[[str], str]
) -> tuple[Count, Reason | None]:
    """Which of ``INTO_CLASSES`` a row with a raw *text* is in, and why the text is no address, where it is none."""
    address = spelled(text)
    if isinstance(address, Reason):
        if hashed is None:
            return Count.QUARANTINED, address
        return (Count.OWN_HASH_KEPT if has_form(hashed) else Count.HASH_WRONG), address
    if hashed is None:
        return Count.HASH_MISSING, None
    return (Count.RIGHT if hashed == hasher(canonical_text(address)) else Count.HASH_WRONG), None


@dataclass
class IntoJudge:
    """What the passes over one table need."""

    schema: str  # of the ledger
    job: IntoJob
    hasher: Callable[[str], str]
    confirmation: Confirmation
    fingerprint: str = ""
    asks_hashes = False
    places: PlaceJudge | None = None  # where the job keeps the place of each address
    run_ended: str | None = field(default=None, init=False)  # when the last run of this job ended
    _text: sql.Composable = field(init=False)
    _last: CoverageRecord | None = field(
        default=None, init=False
    )  # full, from before the raw column was dropped

    def __post_init__(self) -> None:
        """Each address is hashed once, as far as memory goes."""
        self.hasher = lru_cache(REMEMBERED)(self.hasher)

    @classmethod
    def of(cls, ground: Ground, job: IntoJob) -> "IntoJudge":
        """The judge of *job* in a verification."""
        places = None
        if job.place is not None:
            if ground.geo is None:
                raise TypeError("places are judged with a geo database")
            places = PlaceJudge(job, job.place, ground.geo)
        return cls(ground.schema, job, ground.hasher, ground.confirmation, ground.fingerprint, places=places)

    def begin(self, connection: Connection) -> None:
        """Which columns are there. Raises ``SchemaUnfit`` where the raw one is gone and was never proved."""
        job = self.job
        self.run_ended = runs.last_success(connection, job.identity)
        if not has_column(connection, job, job.into):
            raise SchemaUnfit(problem=f"Table {job.name} has no column {job.into}. Check the plan.")
        self._last = dropping.last_proof(connection, job, self.fingerprint)
        if self._last is None:
            self._text = forms.value_text(connection, job)
            if self.places is not None:
                self.places.begin(connection)

    def _names(self) -> dict[str, sql.Composable]:
        job = self.job
        into = forms.TEXT.format(sql.Identifier(job.into))
        return {
            "table": table(job),
            "raw": sql.Identifier(job.raw),
            "into": into,
            "into_column": sql.Identifier(job.into),
            "into_decodable": decodable(into),
            "decodable": decodable(self._text),
            "text": self._text,
            "shown": sql.Literal(MAX_LENGTH + 1),
            "digits": sql.Literal(HASH_LENGTH + 1),
            "time": sql.Identifier("event", job.time) if job.time else sql.SQL("null::text"),
            **(self.places.names() if self.places else place_judge.NONE),
            "since": SINCE.format(sql.Literal(self.run_ended)) if self._tells_since else sql.SQL("0"),
        }

    @property
    def _tells_since(self) -> bool:
        return self.run_ended is not None and self.job.time is not None

    def read(
        self, connection: Connection, span: Range, slot: AbstractContextManager[Any], *, hashes_amiss: bool
    ) -> RangeCounts:
        """Judge one range. *slot*: held while pairs are read, which the client hashes as they come."""
        if self._last is not None:
            with slot:
                return self._read_hashes(connection, span)
        counts: Counter[Count] = Counter()
        quarantined: Counter[str] = Counter()
        since, newest, checksum = 0, None, 0
        with slot, driver(connection).cursor(name="backfill_pairs") as cursor:
            cursor.itersize = FETCHED
            cursor.execute(PAIRS.format(in_range=span.holds("event"), **self._names()))
            for row in cursor:
                pair = Pair(*row)
                counts[Count.ROWS] += pair.number
                newest = pair.newest or newest
                since += pair.since
                if pair.bare:
                    counts[Count.NO_ADDRESS] += pair.number
                    counts[Count.HASHED_WITHOUT_TEXT] += pair.number * (pair.hashed is not None)
                    continue
                checksum += int(pair.checksum or 0)
                counts[Count.RAW] += pair.number
                found, reason = classify_pair(pair.text, pair.hashed, self.hasher)
                counts[found] += pair.number
                if self.places is not None:
                    for count in self.places.classify(pair.text, pair.place):
                        counts[count] += pair.number
                if found is Count.QUARANTINED and reason is not None:
                    quarantined[reason.value] += pair.number
        wrong: tuple[str, ...] = ()
        if counts[Count.HASH_WRONG] and row_key(connection, self.job).columns:
            wrong = dropping.shown(
                (key for key, _ in self.amiss(connection, span.holds("event"))),
                shown_keys(connection, self.job),
            )
        return RangeCounts(
            counts=counts,
            quarantined=quarantined,
            newest_raw=newest,
            since_run=since,
            wrong_keys=wrong,
            other_spellings=counts[Count.RAW],
            checksum=checksum,
        )

    def amiss(self, connection: Connection, asked: sql.Composable) -> Iterator[tuple[str, str | None]]:
        """Handle of each row with a wrong hash, and the right one: None where the text is no address."""
        for row in self.hashed_rows(connection, asked):
            if row.found is Count.HASH_WRONG:
                yield row.handle, row.right

    def hashed_rows(self, connection: Connection, asked: sql.Composable) -> Iterator[HashedRow]:
        """Each row that has a raw value and any hash.

        *asked*: a condition on ``event``, which says of which rows.
        """
        with driver(connection).cursor(name="backfill_hashed_rows") as cursor:
            cursor.itersize = FETCHED
            cursor.execute(
                ROWS.format(handle=row_key(connection, self.job).handle(), asked=asked, **self._names())
            )
            for handle, text, hashed in cursor:
                address = spelled(text)
                right = None if isinstance(address, Reason) else self.hasher(canonical_text(address))
                yield HashedRow(handle, classify_pair(text, hashed, self.hasher)[0], hashed, right)

    def _read_hashes(self, connection: Connection, span: Range) -> RangeCounts:
        """One range of a table whose raw column is gone."""
        into = forms.TEXT.format(sql.Identifier(self.job.into))
        statement = HASHES_ONLY.format(
            into_column=sql.Identifier(self.job.into),
            is_hash=forms.is_hash(into),
            table=table(self.job),
            in_range=span.holds("event"),
        )
        ((total, hashed, broken),) = rows(connection, statement)
        return RangeCounts(
            counts={
                Count.ROWS: total,
                Count.NO_ADDRESS: total - hashed,
                Count.HASH_OF_RIGHT_FORM: hashed - broken,
                Count.HASH_WRONG: broken,
            }
        )

    def verdict(self, connection: Connection, held: list[RangeCounts]) -> CoverageRecord:
        """The table's record, from what its ranges held."""
        sums, quarantined, checksum = dropping.summed(held)
        if self._last is not None:
            return self._recheck(sums, self._last)
        counted = (
            Count.ROWS,
            Count.RAW,
            *INTO_CLASSES,
            Count.HASHED_WITHOUT_TEXT,
            *(place_judge.COUNTED if self.places else ()),
        )
        counts = in_order({count: sums[count] for count in counted})
        since = sum(one.since_run for one in held)
        newest = dropping.newest_raw(connection, self.job, held)
        listed = sum(quarantine.counts(connection).get(self.job.identity, {}).values())
        named = bool(row_key(connection, self.job).columns)
        confirmed = self.confirmation.of_job(connection, self.job, counts[Count.RIGHT])
        own = self.confirmation.of_column(connection, self.job, counts[Count.RIGHT])
        amiss = reasons.of_into(self.job, counts, listed=listed, own=own, named=named)
        looked_at = sum(counts[count] for count in INTO_CLASSES)
        if looked_at != counts[Count.ROWS]:  # it cannot be; and were it so, nothing may be called covered
            amiss.append(f"{counts[Count.ROWS]:,} rows were read and {looked_at:,} classified: verify again")
        notes = reasons.notes_into(counts)
        if not confirmed and counts[Count.RIGHT]:
            notes.append(
                f"{UNCONFIRMED}: compare one with the application's own before the column is dropped"
            )
        notes += dropping.still_written(connection, self.job, since, newest)
        return CoverageRecord(
            job=self.job.identity,
            table=self.job.label,
            kind=Kind.INTO,
            becomes=self.job.becomes,
            covered=not amiss,
            evidence=Evidence(
                other_spellings=f"{counts[Count.RAW]}/{checksum}",  # as ``gates.pairs`` counts
                key_id=self.confirmation.key_id,
            ),
            confirmed_by=confirmed,
            counts=counts,
            reasons=tuple(amiss),
            raw_rows=counts[Count.RAW],
            newest_raw=newest,
            quarantined=quarantined,
            wrong_keys=tuple(key for one in held for key in one.wrong_keys)[: dropping.KEYS_SHOWN],
            notes=tuple(notes),
            since_run=since if self._tells_since else None,
        )

    def _recheck(self, sums: Counter[Count], last: CoverageRecord) -> CoverageRecord:
        """A table whose raw column is gone: its *last* full record, the form of its hashes checked again."""
        amiss = reasons.shortfall(
            sums[Count.HASH_WRONG],
            "hash is not 64 lower-case hexadecimal digits",
            "hashes are not 64 lower-case hexadecimal digits",
            "look at the application",
        )
        # Of which texts a hash is nobody's but the application's, no row tells any more: as it was proved.
        sums[Count.OWN_HASH_KEPT] = last.counts.get(Count.OWN_HASH_KEPT, 0)
        counted = (
            Count.ROWS,
            Count.NO_ADDRESS,
            Count.OWN_HASH_KEPT,
            Count.HASH_OF_RIGHT_FORM,
            Count.HASH_WRONG,
        )
        return CoverageRecord(
            job=self.job.identity,
            table=self.job.label,
            kind=Kind.INTO,
            becomes=self.job.becomes,
            covered=last.covered and not amiss,
            counts=in_order({count: sums[count] for count in counted}),
            reasons=tuple(amiss),
            notes=tuple(reasons.notes_into(sums)),
            raw_rows=0,
            confirmed_by=last.confirmed_by,
            evidence=Evidence(key_id=last.evidence.key_id),
            proved=last.finished,
        )
