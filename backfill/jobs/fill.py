"""Fill: hash and geo for rows of the address table that the live application left without.

Rows whose inet value is an odd spelling go last and together: which of them carries the hash of
their address can be told only from all of them.
"""

import time
import uuid

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import Reason
from backfill.database.columns import column_type
from backfill.database.connection import copy_in, execute, rows
from backfill.database.quoting import table
from backfill.database.row_key import RowKey
from backfill.database.timeouts import Timeouts
from backfill.database.writing import writes
from backfill.jobs import address_rows, duplicates, networks
from backfill.jobs.resolver import Resolver
from backfill.jobs.row_needs import lacks_place
from backfill.ledger import claims
from backfill.ledger.batches import Batch, PassCounts
from backfill.ledger.quarantine import DUPLICATE
from backfill.plan import Addresses

UNFILLED = sql.SQL("""
    select host(known.{address})
      from {addresses} as known
     where {in_range}
       and (known.{hash} is null or {lacks_place})
       and masklen(known.{address}) = case family(known.{address}) when 4 then 32 else 128 end
       and not known.{address} <<= '::ffff:0:0/96'
""")

FILL_ODD = sql.SQL("""
    update {addresses} as known
       set {hash} = coalesce(known.{hash}, case when not exists (
               select from {addresses} as other where other.{hash} {hash_equals} odd.hash::{hash_type}) then odd.hash end),
           {geo} = case when {lacks_place} then coalesce(odd.geo OPERATOR(pg_catalog.->) 'geoip_info', known.{geo})
                        else known.{geo} end
      from pg_temp.backfill_odd as odd
     where known.{key} {equals} odd.key::{key_type}
       and ((known.{hash} is null and not exists (
               select from {addresses} as other where other.{hash} {hash_equals} odd.hash::{hash_type}))
            or ({lacks_place} and odd.geo is not null))  -- idempotent
""")

QUARANTINE = sql.SQL("""
    insert into {quarantine} as entry (job, row_key, key_columns, reason, run_id)
    select {name}, odd.key, {key_columns}, odd.reason, {run} from backfill_odd as odd
    on conflict (job, row_key) do nothing  -- one that was merged stays merged
""")

RELEASE = sql.SQL("""
    delete from {quarantine} as entry
     where entry.job = {name} and entry.decision_id is null
       and not exists (select from backfill_odd as odd where odd.key = entry.row_key)
""")


def process(
    engine: Engine,
    schema: str,
    addresses: Addresses,
    resolver: Resolver,
    batch: Batch,
    lease: uuid.UUID,
    timeouts: Timeouts,
) -> PassCounts:
    """Fill one range of the address table; live values stay. Raises ``LeaseLost`` and ``Stopped``."""
    statement = UNFILLED.format(
        address=sql.Identifier(addresses.address),
        hash=sql.Identifier(addresses.hash),
        lacks_place=lacks_place(sql.Identifier("known", addresses.geo)),
        addresses=table(addresses),
        in_range=batch.range.holds("known"),
    )
    with engine.begin() as connection:
        timeouts.apply(connection)
        texts = [text for (text,) in rows(connection, statement)]
    resolved = list(resolver.resolve(texts))
    started = time.monotonic()
    with engine.begin() as connection:
        timeouts.apply(connection)
        if claims.fence(connection, batch, lease) >= batch.passes:
            return PassCounts()  # committed, and the answer was lost on its way to us
        written = 0
        if resolved:
            written = address_rows.fill(connection, schema, addresses, resolver, resolved)
        counts = PassCounts(rows=len(texts), written=written, seconds=time.monotonic() - started)
        claims.count_pass(connection, batch.id, counts, seconds=counts.seconds)
    return counts


def settle_odd_rows(
    connection: Connection, schema: str, addresses: Addresses, resolver: Resolver, run_id: int
) -> int:
    """Fill odd rows that stand alone, quarantine duplicates and networks; returns the number of duplicates."""
    twins, alone = duplicates.find_duplicates(connection, addresses)
    key = column_type(connection, addresses, addresses.key)
    hashed = column_type(connection, addresses, addresses.hash)
    resolved = {one.raw: one for one in resolver.resolve({str(row.address) for row in alone})}
    names = {
        "addresses": table(addresses),
        "key": sql.Identifier(addresses.key),
        "hash": sql.Identifier(addresses.hash),
        "geo": sql.Identifier(addresses.geo),
        "lacks_place": lacks_place(sql.Identifier("known", addresses.geo)),
        "key_type": sql.SQL(key.name),
        "equals": key.equals,
        "hash_type": sql.SQL(hashed.name),
        "hash_equals": hashed.equals,
        "quarantine": sql.Identifier(schema, "quarantine"),
        "name": sql.Literal(addresses.identity),
        "key_columns": RowKey((addresses.key,)).array,
        "run": sql.Literal(run_id),
    }
    execute(
        connection,
        sql.SQL(
            "create temporary table backfill_odd (key text, hash text, geo jsonb, reason text) on commit drop"
        ),
    )
    into = sql.Identifier("backfill_odd")
    lone = (
        (row.key, resolved[str(row.address)].hash, resolved[str(row.address)].geo)
        for row in alone
        if row.lacks_hash or row.lacks_geo
    )
    if copy_in(connection, into, ["key", "hash", "geo"], lone):
        with writes(connection, addresses):
            execute(connection, FILL_ODD.format(**names))
    execute(connection, sql.SQL("truncate backfill_odd"))
    # Of one that was kept, nothing waits any more: it has the hash of its own spelling.
    waiting = [(row.key, DUPLICATE) for pair in twins for row in pair.others]
    waiting += [
        (one.key, Reason.NETWORK.value)
        for one in networks.find_networks(connection, addresses)
        if one.lacks_hash
    ]
    copy_in(connection, into, ["key", "reason"], waiting)
    execute(connection, RELEASE.format(**names))
    execute(connection, QUARANTINE.format(**names))
    return sum(len(pair.others) for pair in twins)
