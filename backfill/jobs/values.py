"""Values: what each distinct text becomes where it stays in its column: hash, pseudonym, network. Enters the map alone.

As ``resolve`` does it for links: all computing is in the client, each text once. So is the place of an address, where
a job keeps it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import Address, Reason, canonical_text, canonicalise
from backfill.database.connection import copy_in, execute, value
from backfill.geo.geo_database import GeoDatabase
from backfill.geo.source import KEYS
from backfill.hashing.pseudonym import Pseudonyms, prefix_text
from backfill.jobs.resolver import encoded
from backfill.ledger import address_map

INCOMING = sql.SQL("""
    create temporary table if not exists backfill_incoming_values (
        raw text, address text, hash text, pseudonym text, reason text, foreign_prefix text, geo jsonb, lost text
    ) on commit delete rows
""")
# In the order of the map's own index: entries in random order cost half as much again.
ENTER = sql.SQL("""
    with entered as (
        insert into {map} (raw, address, hash, pseudonym, reason, foreign_prefix, geo, lost)
        select raw, address::inet, hash, pseudonym, reason, foreign_prefix::boolean, geo, lost
          from pg_temp.backfill_incoming_values
         order by raw
        on conflict do nothing
        returning 1
    )
    select count(*) from entered
""")


class Value(NamedTuple):
    """A text and what it can become, as COPY wants it: text or None."""

    raw: str
    address: str | None
    hash: str | None
    pseudonym: str | None
    reason: str | None
    foreign_prefix: str | None = None
    geo: bytes | None = None  # JSON
    lost: str | None = None  # keys of the place whose values the database cannot hold, with commas


@dataclass(frozen=True)
class ValueResolver:
    """Text → ``Value``: what the kinds of a run need, and no more."""

    hash_address: Callable[[str], str] | None = None
    pseudonyms: Pseudonyms | None = None
    geo: GeoDatabase | None = None

    def resolve(self, texts: Iterable[str]) -> Iterator[Value]:
        """Each text once; never raises for a text. A pseudonym of ours stays what it is, in its canonical spelling."""
        for raw in texts:
            address = canonicalise(raw)
            if isinstance(address, Reason):
                yield Value(raw, None, None, None, address.value)
                continue
            text = canonical_text(address)
            ours = self.pseudonyms
            if ours is not None and ours.is_ours(raw):
                yield Value(raw, text, self._hash(text), text, None)
                continue
            foreign = "t" if ours is not None and raw.startswith(prefix_text(ours.prefix)) else None
            pseudonym = None if ours is None else ours.pseudonym(text)
            yield Value(raw, text, self._hash(text), pseudonym, None, foreign, *self._place(address))

    def _place(self, address: Address) -> tuple[bytes | None, str | None]:
        if self.geo is None:
            return None, None
        record, lost = self.geo.look(address)
        return encoded(tuple(map(record.get, KEYS))) if record else None, ",".join(lost) or None

    def _hash(self, text: str) -> str | None:
        return None if self.hash_address is None else self.hash_address(text)


def enter(schema: str, connection: Connection, resolved: Sequence[Value]) -> int:
    """Enter new texts into the map, in *connection*'s transaction; returns how many entered it."""
    execute(connection, INCOMING).close()
    copy_in(connection, sql.Identifier("backfill_incoming_values"), Value._fields, resolved)
    return int(value(connection, ENTER.format(map=address_map.name(schema))))
