"""Events: does every row with a raw value have the right link, and geo where its address resolves?

How their ranges are read, and which rows come to the client, stands in ``reading``; what they came to
is summed up here.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill import safe
from backfill.addresses import MAX_LENGTH, Reason
from backfill.coverage import reading
from backfill.coverage.judgement import DANGLING, MISFILED, STATES, WRONG, Suspect, canonical, judge, state
from backfill.coverage.places import has_place
from backfill.coverage.record import Kind, Record, shortfall
from backfill.database.decodable import decodable
from backfill.database.engine import execute, rows, value
from backfill.database.heap import Range
from backfill.database.inspection import column_type, columns
from backfill.database.names import table
from backfill.database.nullable import fates, or_seal
from backfill.geo import GeoDatabase
from backfill.plan import Addresses, Job

KEYS_SHOWN = 20
REMEMBERED = 1 << 16  # addresses whose place was looked up: the same few come again in every range
UNCOVERING = (
    "unlinked",
    "wrong",
    "misfiled",
    "dangling",
    "rejected",
    "hash wrong",
    "hash missing",
    "geo missing",
)

SINCE = sql.SQL("""
    select count(*) from {table} as event
     where {in_range} and event.{raw} is not null and {time} > {run_ended}
""")

WAITING = sql.SQL("select count(*) from {quarantine} where job = %s and decision_id is null")

LINKED_AMISS = sql.SQL("""
    select event.{key}::text, case when {decodable} then left({text}, {shown}) end, abbrev(known.{address})
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


@dataclass(frozen=True)
class EventProof:
    """What the passes over one event table need."""

    schema: str
    addresses: Addresses
    job: Job
    geo: GeoDatabase
    number: int  # of the verification
    run_ended: str | None  # when the last run of this table ended

    @cached_property
    def resolves(self) -> Callable[[str], bool]:
        """Whether the geo database has a place for the address that a text spells."""
        knows = self.geo.knows

        def resolves(text: str) -> bool:
            address = canonical(text)
            return not isinstance(address, Reason) and knows(address)

        return lru_cache(REMEMBERED)(resolves)

    @property
    def names(self) -> dict[str, sql.Composable]:
        """For the statements of this file."""
        job, part = self.job, self.addresses
        run_ended: sql.Composable = sql.SQL("null")
        if job.time and self.run_ended:
            run_ended = sql.SQL("{}::timestamptz").format(sql.Literal(self.run_ended))
        return {
            "table": table(job),
            "key": sql.Identifier(job.key),
            "raw": sql.Identifier(job.raw),
            # Letter for letter, whatever the column's type and collation call equal.
            "text": sql.SQL('event.{}::text collate "C"').format(sql.Identifier(job.raw)),
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

    def judge(self, suspect: Suspect) -> list[str]:
        """The names of all counts that such a row adds to."""
        return judge(suspect, self.addresses.sentinel, self.resolves)

    def read(
        self, connection: Connection, span: Range, slot: AbstractContextManager[Any], *, hashes_amiss: bool
    ) -> dict[str, Any]:
        """Judge one range; returns its counts. *slot*: to ask the server in."""
        kind = column_type(connection, self.addresses, self.addresses.key)
        names = (
            self.names
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
            held = reading.judged(found, self.judge)
        counts, since = held.counts, 0
        if held.late:  # few ranges are: counted apart, not in every row
            since = value(connection, SINCE.format(**names))
        keys = (
            self._wrong_keys(connection, span)
            if counts[WRONG] + counts[MISFILED] + counts[DANGLING] + counts[DANGLING]
            else []
        )
        return {
            **counts,
            "rows": held.rows,
            "raw": held.raw,
            "linked without text": held.link_only,
            "geo missing without text": held.bare,
            "since run": since,
            "newest": held.newest,
            "keys": keys,
            "others": held.others,
            "checksum": str(held.checksum),
        }

    def amiss(self, connection: Connection, span: Range) -> Iterator[tuple[str, str | None, str]]:
        """Key, text (none that cannot be decoded) and state of rows that are linked to what their text does not spell."""
        kind = column_type(connection, self.addresses, self.addresses.key)
        statement = LINKED_AMISS.format(in_range=span.holds("event"), equals=kind.equals, **self.names)
        for key, raw, linked in rows(connection, statement):
            spelled = Reason.UNDECODABLE if raw is None else canonical(raw)
            found = DANGLING if linked is None else state(spelled, linked, self.addresses.sentinel)
            if found in (WRONG, MISFILED, DANGLING):
                yield key, raw, found

    def _wrong_keys(self, connection: Connection, span: Range) -> list[str]:
        keys = []
        for key, _, _ in self.amiss(connection, span):
            keys.append(key)
            if len(keys) == KEYS_SHOWN:
                break
        return keys

    def verdict(self, connection: Connection, held: list[dict[str, Any]]) -> Record:
        """The table's record, from what its ranges held."""
        sums: Counter[str] = Counter()
        for one in held:
            sums.update({name: number for name, number in one.items() if isinstance(number, int)})
        counts = {name: sums[name] for name in ("rows", "raw", *STATES)}
        counts["no address"] = sums["rows"] - sums["raw"]
        for name in (
            "linked without text",
            "geo missing without text",
            "hash wrong",
            "hash missing",
            "geo missing",
            "geo has no place",
        ):
            counts[name] = sums[name]
        newest = self._newest(connection, [one["newest"] for one in held if one["newest"]])
        notes = []
        if sums["since run"]:
            notes.append(
                f"{sums['since run']:,} raw values were written after the last run ended, the newest at {newest}: "
                f"the application still writes them; deploy the change that stops it{or_seal(connection, self.job)}"
            )
        if counts["geo missing without text"]:
            notes.append(
                f"{counts['geo missing without text']:,} rows that are linked and hold no text lack the geo that "
                "their address has: `backfill run`"
            )
        listed, undecided = (
            int(value(connection, WAITING.format(**self.names), (part.identity,)))
            for part in (self.job, self.addresses)
        )
        ways = fates(connection, self.job) if counts["rejected"] else ""
        reasons = self._reasons(counts, ways, listed, undecided)
        checksum = 0
        for one in held:
            checksum ^= int(one["checksum"])
        return Record(
            job=self.job.identity,
            table=self.job.label,
            kind=Kind.EVENTS,
            covered=not reasons,
            detail={"other spellings": f"{sums['others']}/{checksum}"},  # as conditions.links() counts it
            counts=counts,
            reasons=tuple(reasons),
            raw_rows=counts["raw"],
            newest_raw=newest,
            quarantined={
                name.removeprefix("reason "): number
                for name, number in sums.items()
                if name.startswith("reason ")
            },
            wrong_keys=tuple(key for one in held for key in one["keys"])[:KEYS_SHOWN],
            notes=tuple(notes),
            since_run=sums["since run"] if self.job.time and self.run_ended else None,
        )

    def _newest(self, connection: Connection, found: list[str]) -> str | None:
        if not found or self.job.time is None:
            return None
        catalog = columns(connection, self.job)
        if isinstance(catalog, str):
            return None
        # Text of the server's own, compared as what it is.
        statement = sql.SQL("select max(moment::{0})::text from unnest(%s::text[]) as moment").format(
            sql.SQL(catalog[self.job.time].type)
        )
        return str(value(connection, statement, (found,)))

    def _reasons(self, counts: dict[str, int], ways: str, listed: int, undecided: int) -> list[str]:
        name = self.job.label
        settle = f"`backfill quarantine settle {safe.word(name)} --as {ways} --count {counts['rejected']}`"
        if listed != counts["rejected"]:  # the list is a run's: what came since is not on it
            settle = "`backfill run`, which lists them, then `backfill quarantine list`"
        hashes = "`backfill calibrate`; if the salt is right, `backfill repair "
        return (
            shortfall(counts["unlinked"], "rows have an address and no link", "`backfill run`")
            + shortfall(
                counts["wrong"],
                "rows are linked to another address",
                f"`backfill repair {safe.word(name)} --kind link --count {counts['wrong']}` (their keys are in the JSON)",
            )
            + shortfall(
                counts["misfiled"],
                "rows with an address are linked to the sentinel",
                f"`backfill repair {safe.word(name)} --kind sentinel --count {counts['misfiled']}`",
            )
            + shortfall(
                counts["dangling"],
                "rows are linked to a row of the address table that is gone, or has no address",
                f"`backfill repair {safe.word(name)} --kind dangling --count {counts['dangling']}`",
            )
            + shortfall(counts["rejected"], "rows hold a text that is no address", settle)
            + shortfall(
                counts["hash missing"],
                "rows are linked to an address without a hash",
                # The canonical row waits for the hash of its duplicate; a run cannot give it.
                f"what {self.addresses.name} says: merge, then `backfill run`"
                if undecided
                else "`backfill run`",
            )
            + shortfall(
                counts["hash wrong"],
                "rows are linked to an address with a wrong hash",
                f"{hashes}{self.addresses.label} --kind hash`",
            )
            + shortfall(counts["geo missing"], "rows lack the geo that their address has", "`backfill run`")
        )

    def reread(self, connection: Connection, span: Range) -> dict[str, Any]:
        """One range of a table whose raw column is gone: do its links still lead somewhere?"""
        kind = column_type(connection, self.addresses, self.addresses.key)
        statement = LINKS_ONLY.format(in_range=span.holds("event"), equals=kind.equals, **self.names)
        ((total, linked, broken),) = rows(connection, statement)
        return {"rows": total, "right": linked, "hash wrong": broken, "newest": None, "keys": []}

    def recheck(self, held: list[dict[str, Any]], proved: Record) -> Record:
        """A table whose raw column is gone: its last full record, its links checked again."""
        sums: Counter[str] = Counter()
        for one in held:
            sums.update({name: number for name, number in one.items() if isinstance(number, int)})
        counts = {
            "rows": sums["rows"],
            "right": sums["right"],
            "hash wrong": sums["hash wrong"],
            "no address": sums["rows"] - sums["right"],
        }
        reasons = shortfall(
            counts["hash wrong"],
            "rows are linked to an address without a proper hash",
            "look at the application",
        )
        return Record(
            job=self.job.identity,
            table=self.job.label,
            kind=Kind.EVENTS,
            covered=proved.covered and not reasons,
            counts=counts,
            reasons=tuple(reasons),
            raw_rows=0,
            proved=proved.proved,
        )
