"""Repair: what live traffic left wrong is repaired on record, by exact count.

The judge is the verifier: exactly what it counts is changed, and the count given must be the one
found. The decision is entered with the first rows that it changes; a repeat finds the rest.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from psycopg2 import sql
from sqlalchemy import Engine

from backfill import escaping
from backfill.addresses import Reason, canonicalise
from backfill.database.blocks import Range
from backfill.database.columns import column_type
from backfill.database.connection import execute, rows
from backfill.database.decodable import decodable
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.database.write_check import collisions_told, now_at, require_taken
from backfill.database.writing import writes
from backfill.errors import RepairUnsafe, WrongCount
from backfill.escaping import counted
from backfill.ledger import decisions
from backfill.ledger.counts import Count
from backfill.ledger.decisions import Decision
from backfill.plan import Addresses, LinkJob
from backfill.verify.addresses import ROWS, AddressVerifier
from backfill.verify.classification import HASH_RIGHT, HASH_WRONG, hash_state
from backfill.verify.confirmation import UNCONFIRMED, Confirmation
from backfill.verify.events import EventVerifier
from backfill.verify.staged_rows import FIX, is_named, lock, spans, stage

STAGED = ("key", "raw", "address", "hash")


class Repair(StrEnum):
    """What is to be repaired."""

    LINK = "link"  # a row linked to another address than its text spells
    SENTINEL = "sentinel"  # a row whose text is an address, linked to the one that stands for none
    DANGLING = "dangling"  # a row linked to an address row that is gone
    HASH = "hash"  # a stored hash that is not the formula's


STATE = {
    Repair.LINK: Count.WRONG,
    Repair.SENTINEL: Count.LINKED_TO_SENTINEL,
    Repair.DANGLING: Count.DANGLING,
}

NULLABLE = "Where the column is NOT NULL, that is refused: first `alter table … alter … drop not null`."
# What writes the application's tables runs under its search_path: all is qualified.
# The right address row may not be there yet. Geo is left to the next run.
ADD = sql.SQL("""
    insert into {addresses} ({address}, {hash})
    select distinct fix.address::pg_catalog.inet, fix.hash from {fix} as fix
     where fix.address is not null
       and not exists (select from {addresses} as known
                        where known.{address} OPERATOR(pg_catalog.=) fix.address::pg_catalog.inet
                           or known.{hash} {hash_equals} fix.hash::{hash_type})
     order by 1                                           -- sorted: opposite orders deadlock
    on conflict do nothing
""")
# Where only an odd spelling of the address has a row, that one carries the hash.
RELINK = sql.SQL("""
    update {table} as event
       set {link} = coalesce(
               (select known.{address_key} from {addresses} as known
                 where known.{address} OPERATOR(pg_catalog.=) fix.address::pg_catalog.inet),
               (select known.{address_key} from {addresses} as known
                 where known.{hash} {hash_equals} fix.hash::{hash_type}))
      from {fix} as fix
     where {named}
       and case when fix.raw is null then not {decodable}                  -- not one that changed since it was judged
                else {text} OPERATOR(pg_catalog.=) fix.raw end
    returning event.ctid
""")

# First away from those whose hash is another's: two rows may have each other's, and the column is unique. And from those
# whose own another row keeps. No other, since the column may be NOT NULL.
CLEAR_HASH = sql.SQL("""
    update {addresses} as known set {hash} = null from {fix} as fix
     where known.{key} {equals} fix.key::{key_type}
       and case when fix.raw OPERATOR(pg_catalog.=) '' then {decodable} is not true or known.{hash} {hash_equals} fix.raw::{hash_type}
                else known.{hash} {hash_equals} fix.raw::{hash_type} end
       and (exists (select from {fix} as theirs where known.{hash} {hash_equals} theirs.hash::{hash_type})
            or exists (select from {addresses} as other where other.{hash} {hash_equals} fix.hash::{hash_type}))
""")
# Of the rows that had a wrong hash when they were locked: those that have neither the right one now, nor none because
# another row has it.
WRONG_ROWS = sql.SQL("""
    select known.{key}::text from {addresses} as known
      join {fix} as fix on known.{key} {equals} fix.key::{key_type}
     where case when fix.raw = '' then {decodable} is not true or known.{hash} {hash_equals} fix.raw::{hash_type}
                else known.{hash} {hash_equals} fix.raw::{hash_type} end
       for update of known
""")
KEPT_HASHES = sql.SQL("""
    select fix.key from {fix} as fix
     where fix.key = any (%s::text[])
       and not exists (select from {addresses} as known
                        where known.{key} {equals} fix.key::{key_type}
                          and (known.{hash} {hash_equals} fix.hash::{hash_type}
                               or known.{hash} is null
                                  and exists (select from {addresses} as other
                                               where other.{hash} {hash_equals} fix.hash::{hash_type})))
""")
SET_HASH = sql.SQL("""
    update {addresses} as known set {hash} = fix.hash from {fix} as fix
     where known.{key} {equals} fix.key::{key_type}
       and case when known.{hash} is null then true
                when fix.raw OPERATOR(pg_catalog.=) '' then {decodable} is not true or known.{hash} {hash_equals} fix.raw::{hash_type}
                else known.{hash} {hash_equals} fix.raw::{hash_type} end
       and not exists (select from {addresses} as other where other.{hash} {hash_equals} fix.hash::{hash_type})
""")


@dataclass(frozen=True)
class LinkRepair:
    """Repairs the links of one event table."""

    engine: Engine
    verifier: EventVerifier
    kind: Repair
    hasher: Callable[[str], str]

    @property
    def job(self) -> LinkJob:
        """The table."""
        return self.verifier.job

    def repair(self, count: int) -> int:
        """Mend all such rows; returns how many. Raises ``WrongCount``."""
        table_spans = spans(self.engine, self.job)
        found = sum(len(self._amiss(span)) for span in table_spans)
        require_count(self.job.label, self.kind, count, found)
        if not found:
            return 0
        decision = Decision("repair", self.job.identity, {"what": self.kind.value})
        return sum(self._repair(span, decision) for span in table_spans)

    def counts(self) -> dict[Repair, int]:
        """What each kind of repair would find now, in one look at the table."""
        found = dict.fromkeys(STATE, 0)
        for span in spans(self.engine, self.job):
            with self.engine.begin() as connection:
                states = [state for *_, state in self.verifier.amiss(connection, span.holds("event"))]
            for kind, state in STATE.items():
                found[kind] += states.count(state)
        return found

    def _amiss(self, span: Range) -> list[tuple[str, str | None]]:
        with self.engine.begin() as connection:
            return [
                (handle, raw)
                for handle, raw, state in self.verifier.amiss(connection, span.holds("event"))
                if state == STATE[self.kind]
            ]

    def _repair(self, span: Range, decision: Decision) -> int:
        amiss = self._amiss(span)
        if not amiss:
            return 0
        part = self.verifier.addresses
        with self.engine.begin() as connection:
            key = row_key(connection, self.job)
            hash_type = column_type(connection, part, part.hash)
            names = {
                "fix": FIX,
                "table": table(self.job),
                "named": is_named(connection, self.job),
                "text": self.verifier.text(connection),
                "decodable": decodable(sql.Identifier("event", self.job.raw)),
                "link": sql.Identifier(self.job.link),
                "hash_type": sql.SQL(hash_type.name),
                "hash_equals": hash_type.equals,
                "addresses": table(part),
                "address": sql.Identifier(part.address),
                "address_key": sql.Identifier(part.key),
                "hash": sql.Identifier(part.hash),
            }
            # A dangling link of a text that is no address becomes none: the next run puts the row into the quarantine.
            stage(connection, STAGED, ((handle, raw, *self._right(raw)) for handle, raw in amiss))
            with writes(connection, part):
                execute(connection, ADD.format(**names))
            tried = lock(connection, self.job)
            # A guarded table lets only this through.
            execute(connection, sql.SQL("set local backfill.repairing = 'on'"))
            with (
                collisions_told(self.job, self.job.link),
                writes(connection, self.job),
            ):
                written = [place for (place,) in rows(connection, RELINK.format(**names))]
            # One that another session gave another text meanwhile was passed over rightly, and is left for a repeat.
            judged = set(amiss)
            kept = [
                handle if key.columns else None
                for handle, raw, state in self.verifier.amiss(connection, now_at(self.job, tried, written))
                # Where nothing names it, a row that was changed is none of those that were locked.
                if state == STATE[self.kind] and (not key.columns or (handle, raw) in judged)
            ]
            require_taken(connection, self.verifier.schema, self.job, self.job.link, kept, len(amiss))
            if written:
                decision.took(connection, len(written))
            return len(written)

    def _right(self, raw: str | None) -> tuple[str | None, str | None]:
        address = Reason.UNDECODABLE if raw is None else canonicalise(raw)
        if isinstance(address, Reason):
            return None, None
        return str(address), self.hasher(str(address))


@dataclass(frozen=True)
class HashRepair:
    """Repairs hashes in the address table."""

    engine: Engine
    verifier: AddressVerifier
    confirmation: Confirmation

    @property
    def part(self) -> Addresses:
        """The table."""
        return self.verifier.addresses

    def repair(self, count: int) -> int:
        """Replace all wrong hashes; returns how many. Raises ``WrongCount``, ``RepairUnsafe``, ``SchemaUnfit``."""
        table_spans = spans(self.engine, self.part)
        wrong, right = self._wrong_and_right(table_spans)
        require_count(self.part.label, Repair.HASH, count, wrong)
        if (unsafe := self._objection(wrong, right)) is not None:
            raise unsafe
        if not wrong:
            return 0
        # All first, then all: the hash that is right for one row may stand in another range.
        with self.engine.begin() as connection:
            kind = column_type(connection, self.part, self.part.key)
            hash_type = column_type(connection, self.part, self.part.hash)
            names = {
                "fix": FIX,
                "addresses": table(self.part),
                "key": sql.Identifier(self.part.key),
                "hash": sql.Identifier(self.part.hash),
                "decodable": decodable(sql.Identifier("known", self.part.hash)),
                "key_type": sql.SQL(kind.name),
                "equals": kind.equals,
                "hash_type": sql.SQL(hash_type.name),
                "hash_equals": hash_type.equals,
            }
            wrong_rows = (
                (key, live, None, hashed)
                for span in table_spans
                for key, state, live, hashed in self._judged(span)
                if state == HASH_WRONG
            )
            stage(connection, STAGED, wrong_rows)
            locked = [key for (key,) in rows(connection, WRONG_ROWS.format(**names))]
            with writes(connection, self.part):
                execute(connection, CLEAR_HASH.format(**names))
                with execute(connection, SET_HASH.format(**names)) as cursor:
                    changed = cursor.rowcount
            kept = [key for (key,) in rows(connection, KEPT_HASHES.format(**names), (locked,))]
            require_taken(connection, self.verifier.schema, self.part, self.part.hash, kept, len(locked))
            decisions.record(connection, "repair", self.part.identity, count, what=Repair.HASH.value)
            return changed

    def objection(self) -> RepairUnsafe | None:
        """Why they may not be replaced, by what the table holds now: then the salt, or the scheme, may be wrong."""
        return self._objection(*self._seen)

    def _objection(self, wrong: int, right: int) -> RepairUnsafe | None:
        if wrong <= right:
            return None
        why = f"{wrong:,} are wrong and {right:,} right: that is not damage, but another salt or scheme"
        return RepairUnsafe(
            part=self.part.label, why=why, column=f"{self.part.name}.{self.part.hash}", first=NULLABLE
        )

    def doubt(self) -> str | None:
        """What to look at before they are replaced: where no live hash confirms the salt, those may be the right ones.

        Not refused, since nothing that is done to the rows would ever confirm it.
        """
        wrong, right = self._seen
        with self.engine.begin() as connection:
            if not wrong or self.confirmation.of_addresses(connection, right):
                return None
        return (
            f"{self.part.label}: {UNCONFIRMED}, and {counted(wrong, 'hash is', 'hashes are')} of something else. Compare one "
            "with the application's own before it is replaced."
        )

    def counts(self) -> dict[Repair, int]:
        """What the repair would find now."""
        return {Repair.HASH: self._seen[0]}

    @cached_property
    def _seen(self) -> tuple[int, int]:
        """Wrong and right hashes at the first look, for what is said before a repair, which looks again."""
        return self._wrong_and_right(spans(self.engine, self.part))

    def _wrong_and_right(self, found: Iterable[Range]) -> tuple[int, int]:
        wrong = right = 0
        for span in found:
            for _, state, *_ in self._judged(span):
                wrong, right = wrong + (state == HASH_WRONG), right + (state == HASH_RIGHT)
        return wrong, right

    def _judged(self, span: Range) -> Iterator[tuple[str, str, str | None, str]]:
        """Key, state, stored and rightful hash."""
        with self.engine.begin() as connection:
            found = rows(connection, ROWS.format(in_range=span.holds("known"), **self.verifier.names))
        for key, host, masklen, live in found:
            if host is not None:
                state, _, address = hash_state(host, masklen, live, self.verifier.hasher)
                yield key, state, live, self.verifier.hasher(address)


def require_count(name: str, kind: Repair, given: int, found: int) -> None:
    """Raises ``WrongCount``."""
    if given != found:
        raise WrongCount(
            subject=f"Repair of {name} ({kind.value})",
            given=given,
            found=found,
            look=f"backfill repair {escaping.word(name)} --kind {kind.value}",
        )
