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

from backfill.coverage.judgement import RIGHT, Suspect
from backfill.jobs.conditions import lacks_geo
from backfill.plan import Job

# A group without a suspect is all the rest of the range. The inner query is not flattened (offset 0),
# or each row would work out several times what it is.
COUNT = sql.SQL("""
    select suspect[1], suspect[2], suspect[3], suspect[4], suspect[5], count(*),
           bit_xor(hash_record_extended(row(key, link), 0)) filter (where suspect is not null),
           case when suspect is null then count(raw) end, case when suspect is null then count(link) end,
           case when row_number() over () = 1
                then (max(max(time) filter (where raw is not null)) over ())::text end,
           case when row_number() over () = 1
                then max(max(time) filter (where raw is not null)) over () > {run_ended} end
      from (select event.{key} as key, event.{raw} as raw, event.{link} as link, {time} as time,
                   case when event.{raw} is not null
                         and (event.{raw} is distinct from host(known.{address}) {or_geo} {or_hash})
                        then array[left(event.{raw}::text, {shown}), host(known.{address}), {hash_state},
                                   coalesce({lacks}, false)::text, coalesce({no_place}, false)::text]
                   end as suspect
              from {table} as event
              left join {addresses} as known on known.{address_key} = event.{link}
              {with_hashes}
             where {in_range}
            offset 0) as judged
     group by suspect
""")

# Only where a hash is amiss; the others have no row there, or one that says right.
WITH_HASHES = sql.SQL("""
              left join {odd} as odd on odd.verification_id = {number} and odd.hash <> 'right'
                                    and odd.address_key::{key_type} = event.{link}
""")


Judge: TypeAlias = Callable[[Suspect], list[str]]  # the names of all counts that such a row adds to


@dataclass
class Held:
    """What a range held. *counts*: rows by the name of the count."""

    counts: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    raw: int = 0
    link_only: int = 0
    late: bool = False  # raw values were written after the last run ended
    newest: str | None = None
    others: int = 0  # other spellings than the linked address's own
    checksum: int = 0  # of their keys and links

    def add(self, suspect: Suspect, number: int, check: int | None, judge: Judge) -> None:
        """Take in a group of suspects."""
        self.rows, self.raw = self.rows + number, self.raw + number
        for name in judge(suspect):
            self.counts[name] += number
        if suspect.raw != suspect.linked and check is not None:
            self.others, self.checksum = self.others + number, self.checksum ^ check

    def add_rest(self, number: int, raw: int, links: int) -> None:
        """Take in what is left of the range: plainly right, or without an address."""
        self.rows, self.raw = self.rows + number, self.raw + raw
        self.counts[RIGHT] += raw
        self.link_only = links - raw  # those with a text are linked, or they would be suspects


def judged(found: Iterable[tuple[Any, ...]], judge: Judge) -> Held:
    """What the range holds, from that statement's rows; *judge* says what a suspect is.

    Row by row: a list of all suspects would be walked again and again by the garbage collector.
    """
    held = Held()
    for raw, linked, hashed, lacks, no_place, number, check, raws, links, newest, late in found:
        if newest is not None:  # on one of the groups
            held.newest, held.late = newest, bool(late)
        if hashed is None:
            held.add_rest(number, raws, links)
        else:
            held.add(Suspect(raw, linked, hashed, lacks == "true", no_place == "true"), number, check, judge)
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


def geo_names(job: Job) -> dict[str, sql.Composable]:
    """The part of the statement that looks for geo in the event."""
    if job.extra is None:
        return {"or_geo": sql.SQL(""), "lacks": sql.SQL("false"), "no_place": sql.SQL("false")}
    extra = sql.Identifier("event", job.extra)
    return {
        # Takes in more than lacks geo: the cheap test first, what it means is worked out for few rows.
        "or_geo": sql.SQL("""or ({} @> '{{"geoip_info": {{}}}}') is not true""").format(extra),
        "lacks": lacks_geo(job),
        # A list, a text or a number has no place for a geoip_info: counted, and nobody's fault.
        "no_place": sql.SQL("jsonb_typeof({}) not in ('object', 'null')").format(extra),
    }
