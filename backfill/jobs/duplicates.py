"""Duplicates: rows of the address table that are one address in several spellings.

``1.2.3.4`` and ``::ffff:1.2.3.4`` are different inet values, so UNIQUE does not merge them; the hash is
unique, so only one can carry it. The canonical row does, or the one with the lowest key where there is none.

A network (``8.8.4.0/24``, a ban of many hosts) is no address and no spelling of its first one: ``networks``.
"""

from collections import defaultdict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import canonicalise
from backfill.database.connection import copy_in, execute, rows
from backfill.database.quoting import table
from backfill.jobs.row_needs import lacks_place
from backfill.plan import Addresses

ODD_ROWS = sql.SQL("""
    select known.{key}::text, host(known.{address}), known.{hash} is null,
           {lacks_place}
      from {addresses} as known
     where known.{address} <<= '::ffff:0:0/96' and masklen(known.{address}) = 128
     order by known.{key}
""")

CANONICAL_ROWS = sql.SQL("""
    select spelling.address, known.{key}::text
      from backfill_spellings as spelling
      join {addresses} as known on known.{address} = spelling.address::inet
""")


@dataclass(frozen=True)
class OddRow:
    """A row whose inet value is not the canonical form of its address."""

    key: str
    address: IPv4Address | IPv6Address
    spelling: str  # as PostgreSQL writes it
    lacks_hash: bool
    lacks_geo: bool


@dataclass(frozen=True)
class Twins:
    """Rows that are one address: *keep* carries its hash, the others do not."""

    address: str
    keep: str
    others: tuple[OddRow, ...]


def _odd_rows(connection: Connection, addresses: Addresses) -> list[OddRow]:
    statement = ODD_ROWS.format(
        key=sql.Identifier(addresses.key),
        address=sql.Identifier(addresses.address),
        hash=sql.Identifier(addresses.hash),
        lacks_place=lacks_place(sql.Identifier("known", addresses.geo)),
        addresses=table(addresses),
    )
    found = []
    for key, host, lacks_hash, lacks_geo in rows(connection, statement):
        address = canonicalise(host)
        if isinstance(address, IPv4Address | IPv6Address):  # host() spells nothing else
            found.append(OddRow(key, address, host, lacks_hash, lacks_geo))
    return found


def find_duplicates(connection: Connection, addresses: Addresses) -> tuple[list[Twins], list[OddRow]]:
    """The addresses that several rows share, and odd rows that stand alone (each carries its hash itself)."""
    odd = defaultdict(list)
    for row in _odd_rows(connection, addresses):
        odd[str(row.address)].append(row)
    if not odd:
        return [], []
    execute(
        connection,
        sql.SQL(
            "create temporary table if not exists backfill_spellings (address text) on commit delete rows"
        ),
    )
    copy_in(connection, sql.Identifier("backfill_spellings"), ["address"], ([text] for text in odd))
    canonical = dict(
        rows(
            connection,
            CANONICAL_ROWS.format(
                key=sql.Identifier(addresses.key),
                address=sql.Identifier(addresses.address),
                addresses=table(addresses),
            ),
        )
    )
    twins, alone = [], []
    for address, same in odd.items():
        if address in canonical:
            twins.append(Twins(address, canonical[address], tuple(same)))
        elif len(same) > 1:
            twins.append(Twins(address, same[0].key, tuple(same[1:])))
        else:
            alone.append(same[0])
    return twins, alone
