"""In place: does every row hold what its job makes of an address, and none a raw one?

The text that a value was made of is gone, so nothing can be recomputed from it. A value is known by its form: a
pseudonym by its tag, which only the salt makes, so every distinct value comes to the client; a hash by 64 hexadecimal
digits; a network by the bits that are not set; nothing by NULL or the constant. The record says what that proves.
The place that a job has kept beside a value was made of the same text: it is counted, and compared with what the
batches have on record.
"""

from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import MAX_LENGTH
from backfill.database.blocks import Range
from backfill.database.columns import has_column
from backfill.database.connection import driver, value
from backfill.database.decodable import decodable
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.errors import SchemaUnfit
from backfill.hashing.pseudonym import Pseudonyms, prefix_text
from backfill.ledger import batches, quarantine, runs, verification_ranges
from backfill.ledger.counts import IN_PLACE_CLASSES, PLACE_COUNTS, Count, in_order
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.ledger.verification_ranges import RangeCounts
from backfill.plan import InPlaceJob
from backfill.verify import ahead, forms, reasons
from backfill.verify.ages import moment_of
from backfill.verify.judge import Ground
from backfill.verify.places import kept_place
from backfill.verify.values import classify_value

FETCHED = 10_000  # values at a time: of a million, the client holds no more
RAW = (Count.STILL_RAW, Count.FOREIGN_PREFIX)  # raw addresses; and texts that a run would replace
BY_CLIENT = ("pseudonym", "nothing")  # a tag, and a constant in any spelling: the server cannot tell them
DUE = (*RAW, Count.QUARANTINED)  # of these, only rows that are old enough uncover
NO_RESULT = (*DUE, Count.KEPT_UNREADABLE, Count.NOT_DUE, Count.WITHOUT_TIME)

# A group for each distinct value that the client has to look at: its kind is an array of one, NULL inside for one
# that cannot be decoded; an empty one where the server knows the form, NULL where there is no value.
# The inner query is not flattened (offset 0), or each row would work out its kind twice.
VALUES = sql.SQL("""
    select kind is null, cardinality(kind), kind[1], count(*), {since}, {young}, {timeless}, {ahead}, {placed}, {other}, max(time)::text, {place}
      from (select case when event.{raw} is null then null
                        when {in_form} then '{{}}'::text[]
                        else array[case when {decodable} then left({text}, {shown}) end] end as kind,
                   {time} as time{places}
              from {table} as event
             where {in_range}
            offset 0) as judged
     group by kind
""")
SINCE = sql.SQL("count(*) filter (where time > {}::timestamptz)")
YOUNG = sql.SQL("count(*) filter (where time >= {}::timestamptz)")
AHEAD = sql.SQL("count(*) filter (where time > {}::timestamptz)")
DAY = timedelta(days=1)
TIMELESS = sql.SQL("count(*) filter (where time is null)")
PLACES = sql.SQL(", {is_place} as is_place, {is_other} as is_other")
PLACED, OTHER = sql.SQL("count(*) filter (where is_place)"), sql.SQL("count(*) filter (where is_other)")


class Group(NamedTuple):
    """Rows of one value."""

    is_null: bool
    size: int | None
    text: str | None
    number: int
    since: int  # written after the last run ended
    young: int  # not as old as the job asks for
    timeless: int  # of a job that asks for an age
    ahead: int  # of those that are not as old, with or without a raw value: more than a day in the future
    placed: int  # of a job that keeps the place of each address
    other: int  # the same: what stands there is no object
    newest: str | None
    place: int  # by its newest row, the newest first


@dataclass
class InPlaceJudge:
    """What the passes over one table need."""

    job: InPlaceJob
    pseudonyms: Pseudonyms | None
    _ground: Ground
    asks_hashes = False
    run_ended: str | None = field(default=None, init=False)  # when the last run of this job ended
    _text: sql.Composable = field(init=False)
    _now: datetime | None = field(default=None, init=False)  # rows are as old as they were when it began

    @classmethod
    def of(cls, ground: Ground, job: InPlaceJob) -> "InPlaceJudge":
        """The judge of *job* in a verification."""
        return cls(job, ground.pseudonyms if job.becomes == "pseudonym" else None, ground)

    def begin(self, connection: Connection) -> None:
        """Of what type its columns are. Raises ``SchemaUnfit`` where the raw column is gone."""
        if not has_column(connection, self.job, self.job.raw):
            raise SchemaUnfit(problem=f"Table {self.job.name} has no column {self.job.raw}. Check the plan.")
        self._text = forms.value_text(connection, self.job)
        self.run_ended = runs.last_success(connection, self.job.identity)
        self._now = verification_ranges.began(connection, self._ground.number)

    def _statement(self, span: Range) -> sql.Composable:
        time: sql.Composable = sql.SQL("null::text")
        nobody: sql.Composable = sql.SQL("0")
        since = young = timeless = early = place = placed = other = nobody
        places: sql.Composable = sql.SQL("")
        if self.job.place is not None:
            placed, other = PLACED, OTHER
            places = PLACES.format(**kept_place(self.job.place))
        if self.job.time is not None:
            time = moment_of(self.job.time)
            place = sql.SQL("row_number() over (order by max(time) desc nulls last)")
        if self._tells_since:
            since = SINCE.format(sql.Literal(self.run_ended))
        if self.job.after is not None and self._now is not None:
            young = YOUNG.format(sql.Literal((self._now - self.job.after).isoformat()))
            timeless = TIMELESS
            early = AHEAD.format(sql.Literal((self._now + DAY).isoformat()))
        return VALUES.format(
            raw=sql.Identifier(self.job.raw),
            in_form=sql.SQL("false")
            if self.job.becomes in BY_CLIENT
            else forms.in_form(self.job, self._text),
            decodable=decodable(self._text),
            text=self._text,
            shown=sql.Literal(MAX_LENGTH + 1),
            time=time,
            since=since,
            young=young,
            timeless=timeless,
            ahead=early,
            place=place,
            placed=placed,
            other=other,
            places=places,
            table=table(self.job),
            in_range=span.holds("event"),
        )

    @property
    def _tells_since(self) -> bool:
        """Of a date, or a time that its zone makes ambiguous, it would be guessed."""
        return self.run_ended is not None and self.job.time is not None and self.job.time.zone is None

    def read(
        self, connection: Connection, span: Range, slot: AbstractContextManager[Any], *, hashes_amiss: bool
    ) -> RangeCounts:
        """Judge one range. *slot*: held while values are read, which the client classifies as they come."""
        counts: Counter[Count] = Counter()
        quarantined: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        since, early, early_raw, newest = 0, 0, 0, None
        with slot, driver(connection).cursor(name="backfill_values") as cursor:
            cursor.itersize = FETCHED
            cursor.execute(self._statement(span))
            for row in cursor:
                group = Group(*row)
                counts[Count.ROWS] += group.number
                early += group.ahead
                found, reason = self._classify(group)
                number = group.number
                if found in DUE:
                    early_raw += group.ahead
                    number -= group.young + group.timeless
                    counts[Count.NOT_DUE] += group.young
                    counts[Count.WITHOUT_TIME] += group.timeless
                counts[found] += number
                if found in (Count.IN_FORM, Count.NO_ADDRESS):
                    counts[Count.GEO] += group.placed
                if found is Count.IN_FORM:
                    counts[Count.GEO_HAS_NO_PLACE] += group.other
                    counts[Count.WITHOUT_PLACE] += number - group.placed - group.other
                if reason is not None and found is Count.QUARANTINED and number:
                    quarantined[reason] += number
                if reason is not None and found is Count.KEPT_UNREADABLE:
                    kept[reason] += group.number
                if found in NO_RESULT and group.newest is not None:
                    newest = min(newest or (group.place, group.newest), (group.place, group.newest))
                if found in RAW:
                    since += group.since
        return RangeCounts(
            counts=counts,
            quarantined=quarantined,
            kept=kept,
            newest_raw=newest[1] if newest else None,
            since_run=since,
            ahead=early,
            ahead_raw=early_raw,
        )

    def _classify(self, group: Group) -> tuple[Count, str | None]:
        if group.is_null:
            return Count.NO_ADDRESS, None
        if group.size == 0:
            return Count.IN_FORM, None
        count, reason = classify_value(self.job, group.text, self.pseudonyms)
        return count, reason.value if reason else None

    def verdict(self, connection: Connection, held: list[RangeCounts]) -> CoverageRecord:
        """The table's record, from what its ranges held."""
        sums: Counter[Count] = Counter()
        quarantined: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for one in held:
            sums.update(one.counts)
            quarantined.update(one.quarantined)
            kept.update(one.kept)
        counts = in_order(
            {count: sums[count] for count in (Count.ROWS, *IN_PLACE_CLASSES)}
            | {count: sums[count] for count in PLACE_COUNTS if self.job.place is not None}
            | {Count.RAW: sum(sums[count] for count in NO_RESULT)}
        )
        since = sum(one.since_run for one in held)
        prefix = prefix_text(self.pseudonyms.prefix) if self.pseudonyms else None
        waiting = quarantine.counts(connection).get(self.job.identity, {})
        amiss = reasons.of_in_place(
            self.job,
            counts,
            since=since,
            prefix=prefix,
            named=bool(row_key(connection, self.job).columns),
            duplicates=waiting.get(quarantine.DUPLICATE_RESULT, 0),
        )
        early = sum(one.ahead for one in held)
        if self._too_many(connection, early, counts[Count.ROWS]):
            amiss += reasons.of_ahead(early, counts[Count.ROWS], ahead.fix(self.job))
        looked_at = sum(counts[count] for count in IN_PLACE_CLASSES)
        if looked_at != counts[Count.ROWS]:  # it cannot be; and were it so, nothing may be called covered
            amiss.append(f"{counts[Count.ROWS]:,} rows were read and {looked_at:,} classified: verify again")
        return CoverageRecord(
            job=self.job.identity,
            table=self.job.label,
            kind=Kind.IN_PLACE,
            becomes=self.job.becomes,
            covered=not amiss,
            counts=counts,
            reasons=tuple(amiss),
            raw_rows=counts[Count.RAW],
            newest_raw=self._newest(connection, [one.newest_raw for one in held if one.newest_raw]),
            quarantined=quarantined,
            notes=tuple(
                reasons.notes_in_place(
                    self.job,
                    counts,
                    kept,
                    batches.rewritten(connection, self.job.identity),
                    batches.deleted(connection, self.job.identity),
                    batches.places(connection, self.job.identity),
                    ahead=sum(one.ahead_raw for one in held),
                )
            ),
            since_run=since if self._tells_since else None,
        )

    def _too_many(self, connection: Connection, early: int, rows: int) -> bool:
        if not ahead.too_many(early, rows):
            return False
        names = ahead.accepted_names(connection, self._ground.schema, self._ground.plan)
        return not ahead.is_accepted(self.job, names)

    def _newest(self, connection: Connection, found: list[str]) -> str | None:
        if not found:
            return None
        # Text of the server's own, compared as what it is.
        statement = sql.SQL("select max(moment::timestamptz)::text from unnest(%s::text[]) as moment")
        return str(value(connection, statement, (found,)))
