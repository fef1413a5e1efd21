"""Reading: a range of an event table, judged in one pass over its rows.

One statement joins every row with the address row it is linked to and counts those that are plainly
right: the text is, letter for letter, the linked address (whose canonical form it is, then), its hash
is not known to be amiss, and geo is there. All others come to the client, grouped, and are judged there.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from psycopg2 import sql

from backfill.addresses import Reason
from backfill.ledger.counts import Count
from backfill.plan import LinkJob
from backfill.verify.classification import Suspect, spelled
from backfill.verify.places import event_place

# Rows of one kind are a group: NULL for those that are plainly right, six elements for suspects that are
# alike, none, one or two for rows without a text (linked; without the place of their address). All that is known of a row is in its kind, so that nothing but
# rows is counted. The checksum is a sum over rows, which needs no key: two alike do not cancel each other out. Of a text it has eight bits of its hash: they tell that it was changed, all but once in 256
# times a row, and cannot tell an address; the text itself is hashed, since its beginning cannot be taken of one that
# cannot be decoded, which is NULL in its kind. The inner query is not flattened (offset 0), or each row would work out its kind twice.
COUNT = sql.SQL("""
    select cardinality(kind), kind[1], kind[2], kind[3], kind[4], kind[5], kind[6], count(*),
           sum(hash_record_extended(row(link, hashtext(text) & 255), 0)) filter (where kind is not null),
           case when row_number() over () = 1 then (max({newest}) over ())::text end,
           case when row_number() over () = 1 then max({newest}) over () > {run_ended} end
      from (select event.{link} as link, {text} as text, {time} as time,
                   case when event.{raw} is null
                        then case when event.{link} is null then '{{}}'::text[]
                                  when not {seen} and {lacks} and {known_place} then '{{linked,bare}}'::text[]
                                  else '{{linked}}'::text[] end
                        when {text} is distinct from abbrev(known.{address}) {or_geo} {or_hash}
                        then array[case when {decodable} then left({text}, {shown}) end, abbrev(known.{address}), {hash_state},
                                   {lacks}::text, {no_place}::text,
                                   (event.{link} is not null and known.{address} is null)::text]
                   end as kind
              from {table} as event
              left join {addresses} as known on known.{address_key} {equals} event.{link}
              {with_hashes}
             where {in_range}
            offset 0) as judged
     group by kind
""")
NEWEST = sql.SQL("case when coalesce(cardinality(kind), 6) = 6 then max(time) end")  # of a group with a text

# Only where a hash is amiss; the others have no row there, or one that says right.
WITH_HASHES = sql.SQL("""
              left join {odd} as odd on odd.verification_id = {number} and odd.hash <> 'right'
                                    and odd.address_key::{key_type} {equals} event.{link}
""")


Classify: TypeAlias = Callable[[Suspect], list[Count]]  # all counts that such a row adds to


@dataclass
class RangeCounts:
    """What a range held."""

    counts: Counter[Count] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)  # by reason
    rows: int = 0
    raw: int = 0
    link_only: int = 0
    bare: int = 0  # of these: without the place that their address has
    late: bool = False  # raw values were written after the last run ended
    newest: str | None = None
    others: int = 0  # other spellings than the linked address's own
    checksum: int = 0  # of their links and texts

    def add(self, suspect: Suspect, number: int, check: int, classify: Classify) -> None:
        """Take in a group of suspects."""
        self.raw += number
        for count in classify(suspect):
            self.counts[count] += number
            if count is Count.QUARANTINED and isinstance(reason := spelled(suspect.raw), Reason):
                self.quarantined[reason.value] += number
        if suspect.raw != suspect.linked:
            self.others, self.checksum = self.others + number, self.checksum + int(check)


def classified(found: Iterable[tuple[Any, ...]], classify: Classify) -> RangeCounts:
    """What the range holds, from that statement's rows; *judge* says what a suspect is.

    Row by row: a list of all suspects would be walked again and again by the garbage collector.
    """
    held = RangeCounts()
    for size, raw, linked, hashed, lacks, no_place, dangling, number, check, newest, late in found:
        held.rows += number
        if newest is not None:  # on one of the groups
            held.newest, held.late = newest, bool(late)
        if size is None:
            held.raw += number
            held.counts[Count.RIGHT] += number
        elif size < 6:
            held.link_only += number * (size > 0)
            held.bare += number * (size > 1)
        else:
            suspect = Suspect(raw, linked, hashed, lacks == "true", no_place == "true", dangling == "true")
            held.add(suspect, number, check, classify)
    return held


def without_hashes() -> dict[str, sql.Composable]:
    """The part of the statement about hashes, where none is amiss."""
    return {"with_hashes": sql.SQL(""), "or_hash": sql.SQL(""), "hash_state": sql.SQL("'right'")}


def with_hashes(names: Mapping[str, sql.Composable]) -> dict[str, sql.Composable]:
    """The same, where some are."""
    return {
        "with_hashes": WITH_HASHES.format(**names),
        "or_hash": sql.SQL("or odd.address_key is not null"),
        "hash_state": sql.SQL("coalesce(odd.hash, 'right')"),
    }


def geo_names(job: LinkJob) -> dict[str, sql.Composable]:
    """The part of the statement that looks for geo in the event."""
    names = event_place(job)
    # The cheap look first: nearly all rows have their place.
    return names | {"or_geo": sql.SQL("or not {seen} and ({lacks} or {no_place})").format(**names)}
