"""Networks in the address table: a ban of many hosts, which no event can be linked to and no hash stands for.

They wait in the quarantine. Kept, each gets the hash of its own spelling (``8.8.4.0/24``), which is that of no
address: the column may be required, and the row has to stay what it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import Reason
from backfill.database.columns import column_type, has_column
from backfill.database.connection import copy_in, execute, rows
from backfill.database.quoting import table
from backfill.database.writing import writes
from backfill.errors import SchemaUnfit, WrongCount
from backfill.ledger import decisions, quarantine
from backfill.plan import Addresses

FIND = sql.SQL("""
    select known.{key}::text, abbrev(known.{address}), known.{hash} is null
      from {addresses} as known
     where masklen(known.{address}) < case family(known.{address}) when 4 then 32 else 128 end
     order by known.{key}
""")

# Under the application's search_path: all is qualified.
HASH = sql.SQL("""
    update {addresses} as known
       set {hash} = network.hash
      from pg_temp.backfill_networks as network
     where known.{key} {equals} network.key::{key_type} and known.{hash} is null
""")


@dataclass(frozen=True)
class Network:
    """A row whose inet value has a mask."""

    key: str
    spelling: str  # as PostgreSQL writes it, with its mask
    lacks_hash: bool


def find_networks(connection: Connection, addresses: Addresses) -> list[Network]:
    """All of them."""
    statement = FIND.format(
        key=sql.Identifier(addresses.key),
        address=sql.Identifier(addresses.address),
        hash=sql.Identifier(addresses.hash),
        addresses=table(addresses),
    )
    return [Network(*row) for row in rows(connection, statement)]


def would_keep(engine: Engine, addresses: Addresses) -> int:
    """The count that ``keep`` would find now."""
    with engine.connect() as connection:
        return len(_waiting(connection, addresses))


def _waiting(connection: Connection, addresses: Addresses) -> list[Network]:
    if not has_column(connection, addresses, addresses.address):
        raise SchemaUnfit(problem=f"{addresses.name}.{addresses.address} is gone: networks cannot be told.")
    waiting = {
        entry.key
        for entry in quarantine.entries(connection, addresses.identity)
        if entry.reason == Reason.NETWORK
    }
    return [one for one in find_networks(connection, addresses) if one.key in waiting]


def keep(engine: Engine, addresses: Addresses, hasher: Callable[[str], str], count: int) -> int:
    """Keep all networks that wait in the quarantine as what they are; returns how many. Raises ``WrongCount``."""
    with engine.begin() as connection:
        found = _waiting(connection, addresses)
        if len(found) != count:
            raise WrongCount(
                subject=f"Networks in {addresses.name}",
                given=count,
                found=len(found),
                look="backfill addresses keep",
            )
        if not found:
            return 0
        execute(
            connection,
            sql.SQL("create temporary table backfill_networks (key text, hash text) on commit drop"),
        )
        into = sql.Identifier("pg_temp", "backfill_networks")
        copy_in(connection, into, ["key", "hash"], ((one.key, hasher(one.spelling)) for one in found))
        key = column_type(connection, addresses, addresses.key)
        with writes(connection, addresses):
            statement = HASH.format(
                addresses=table(addresses),
                key=sql.Identifier(addresses.key),
                hash=sql.Identifier(addresses.hash),
                key_type=sql.SQL(key.name),
                equals=key.equals,
            )
            execute(connection, statement)
        decision = decisions.record(connection, "keep", addresses.identity, len(found), what="networks")
        quarantine.decide(connection, addresses.identity, [one.key for one in found], decision)
    return len(found)
