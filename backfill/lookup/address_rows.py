"""Address rows: those of the address table that are about what is asked, by raw address, hash or key.

What is asked travels by binary COPY into temporary tables: no statement, and so no log of one, holds it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import Column, column_type
from backfill.database.connection import copy_in, execute, rows, value
from backfill.database.decodable import if_decodable
from backfill.database.quoting import table
from backfill.plan import Addresses
from backfill.raw_column import Table

STAGE = sql.SQL("""
    create temporary table if not exists backfill_asked (hash text, address text, row_key text) on commit delete rows
""")
STAGED = sql.SQL("pg_temp.backfill_asked")

# By each of them apart: joined by "or", no index would be used.
BY_HASH = sql.SQL("""
    select known.{key} as key from {staged} as asked
      join {addresses} as known on known.{hash} {hash_equals} asked.hash::{hash_type}
     where asked.hash is not null
""")
BY_ADDRESS = sql.SQL("""
    select known.{key} from {staged} as asked
      join {addresses} as known on known.{address} = asked.address::inet
     where asked.address is not null
""")
# Rows of networks first, which are few: asked of all rows, each address would read the whole table.
BY_NETWORK = sql.SQL("""
    select network.key
      from (select known.{key} as key, known.{address} as network from {addresses} as known
             where masklen(known.{address}) < case family(known.{address}) when 4 then 32 else 128 end
            offset 0) as network
     where exists (select from {staged} as asked
                    where asked.address is not null and network.network >>= asked.address::inet)
""")
# As text: a key that its type does not take would be an error, with the key in it.
BY_KEY = sql.SQL("""
    select known.{key} from {addresses} as known
     where known.{key}::text in (select asked.row_key from {staged} as asked where asked.row_key is not null)
""")
FOUND = sql.SQL("""
    with found as materialized ({found})
    select known.{key}::text, {hash_text}, {host}, {bits}, {banned}, {reason}, {date}, {place}
      from (select distinct key from found) as found
      join {addresses} as known on known.{key} {key_equals} found.key
     order by known.{key}
""")
LOOKUPS = sql.SQL("""
    select address_key, source, build::date::text, found from {lookups}
     where address_key = any (%s::text[]) order by address_key, build
""")
LACKING = sql.SQL("select count(*) from {addresses} as known where known.{hash} is null")

MANY = 1_000  # rows asked


@dataclass(frozen=True)
class Ban:
    """What the application's columns say."""

    banned: bool
    reason: str | None
    date: str | None


@dataclass(frozen=True)
class GeoLookup:
    """That an address was looked up in one build of a geo database."""

    source: str
    build: str
    found: bool


@dataclass(frozen=True)
class AddressRow:
    """A row of the address table. *host* and *bits* while it has its raw address."""

    key: str
    hash: str | None
    host: str | None
    bits: int | None
    ban: Ban | None  # none: the plan names no columns of bans
    place: dict[str, Any] | None
    lookups: tuple[GeoLookup, ...] = ()

    @property
    def is_network(self) -> bool:
        """Whether its raw value names many hosts."""
        return (
            self.host is not None and self.bits is not None and self.bits < (128 if ":" in self.host else 32)
        )


def stage(
    connection: Connection, hashes: Iterable[str], addresses: Iterable[str], keys: Iterable[str]
) -> None:
    """Put what is asked where statements can read it, in place of what was asked before."""
    execute(connection, STAGE)
    execute(connection, sql.SQL("truncate {}").format(STAGED))
    records = [
        *([one, None, None] for one in hashes),
        *([None, one, None] for one in addresses),
        *([None, None, one] for one in keys),
    ]
    copy_in(connection, sql.SQL("pg_temp.backfill_asked"), ["hash", "address", "row_key"], records)
    if len(records) > MANY:  # else the planner thinks of a few
        execute(connection, sql.SQL("set local default_statistics_target = 1; analyze {}").format(STAGED))


def names_of(connection: Connection, part: Addresses) -> dict[str, sql.Composable]:
    """For statements about the address table."""
    hashed, key = column_type(connection, part, part.hash), column_type(connection, part, part.key)
    return {
        "addresses": table(part),
        "staged": STAGED,
        "key": sql.Identifier(part.key),
        "key_equals": key.equals,
        "key_type": sql.SQL(key.name),
        "address": sql.Identifier(part.address),
        "hash": sql.Identifier(part.hash),
        "hash_equals": hashed.equals,
        "hash_type": sql.SQL(hashed.name),
        "hash_text": if_decodable(sql.Identifier("known", part.hash)),
    }


def find_rows(
    connection: Connection, part: Addresses, known: Mapping[str, Column], schema: str
) -> list[AddressRow]:
    """Every row about what is staged, networks around it included."""
    names = names_of(connection, part)
    raw = part.address in known
    ways = [BY_HASH, BY_KEY, *([BY_ADDRESS, BY_NETWORK] if raw else [])]
    nothing = sql.SQL("null")

    def of(name: str | None, shape: str) -> sql.Composable:
        return (
            nothing
            if name is None or name not in known
            else sql.SQL(shape).format(sql.Identifier("known", name))
        )

    statement = FOUND.format(
        found=sql.SQL(" union all ").join(way.format(**names) for way in ways),
        host=of(part.address, "host({})"),
        bits=of(part.address, "masklen({})"),
        banned=of(part.banned, "{}"),
        reason=of(part.ban_reason, "({})::text"),
        date=of(part.ban_date, "({})::text"),
        place=of(part.geo, "({})::text"),
        **names,
    )
    found = rows(connection, statement)
    lookups = _lookups(connection, schema, [row[0] for row in found])
    return [
        AddressRow(
            key,
            hashed,
            host,
            bits,
            None if banned is None else Ban(bool(banned), reason, date),
            None if geo is None else _object(geo),
            tuple(lookups.get(key, ())),
        )
        for key, hashed, host, bits, banned, reason, date, geo in found
    ]


def without_hash(connection: Connection, part: Addresses) -> int:
    """Rows that no hash finds."""
    return int(value(connection, LACKING.format(addresses=table(part), hash=sql.Identifier(part.hash))))


def _object(geo: str) -> dict[str, Any] | None:
    """A place that says something."""
    found = json.loads(geo)
    return (
        found
        if isinstance(found, dict) and any(value not in (None, "", "?") for value in found.values())
        else None
    )


def _lookups(connection: Connection, schema: str, keys: list[str]) -> dict[str, list[GeoLookup]]:
    if not keys or not has_table(connection, schema, "geo_lookups"):
        return {}
    found: dict[str, list[GeoLookup]] = {}
    statement = LOOKUPS.format(lookups=sql.Identifier(schema, "geo_lookups"))
    for key, *lookup in rows(connection, statement, (keys,)):
        found.setdefault(key, []).append(GeoLookup(*lookup))
    return found


def has_table(connection: Connection, schema: str, name: str) -> bool:
    """Whether this role may read a table of that name."""
    part = Table.model_validate({"schema": schema, "table": name})
    statement = sql.SQL("""
        select exists (select from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
                        where n.nspname = %s and c.relname = %s and has_table_privilege(c.oid, 'SELECT'))
    """)
    return bool(value(connection, statement, (part.schema_, part.table)))
