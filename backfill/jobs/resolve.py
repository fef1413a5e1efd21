"""Resolve: each distinct text once → canonical form → hash and geo → one row in the address table.

All computing happens here, in the client; the salt never reaches the server. A batch reads the
distinct texts of a block range that the map does not have yet, computes without a transaction
open, and writes addresses, map, lookups and its own checkpoint in one.

While the server writes one batch, the next is read and computed in a thread of ours (``ahead``).
Computing costs less than a batch's indexes do (20 µs against 40 µs a text), so a thread hides all of
it: the driver waits in the server without the interpreter's lock. A pool of processes would hide no
more, and would have to be given the salt.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import MAX_LENGTH, Reason, canonicalise
from backfill.database.engine import copy_in, execute, rows
from backfill.database.limits import Limits
from backfill.database.names import table
from backfill.geo import KEYS, GeoDatabase
from backfill.jobs.conditions import lacks_geo
from backfill.ledger import address_map, batches, runs
from backfill.ledger.batches import Account, Batch
from backfill.plan import Addresses, Job

_JSON = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode  # json.dumps makes one a call


class Resolved(NamedTuple):
    """A text and what became of it, as COPY wants it: text or None."""

    raw: str
    address: str | None
    hash: str | None
    geo: bytes | None  # JSON, wrapped: {"geoip_info": …}
    reason: str | None


@dataclass(frozen=True)
class Resolver:
    """Text → ``Resolved``; holds the salt inside the hash function and the open geo database."""

    hash_address: Callable[[str], str]
    geo: GeoDatabase

    def resolve(self, texts: Iterable[str]) -> Iterator[Resolved]:
        """Each text once; never raises for a text."""
        for raw in texts:
            address = canonicalise(raw)
            if isinstance(address, Reason):
                yield Resolved(raw, None, None, None, address.value)
                continue
            text = str(address)
            record = self.geo.lookup(address)
            wrapped = _JSON({"geoip_info": record}).encode() if record else None
            yield Resolved(raw, text, self.hash_address(text), wrapped, None)


TEXTS = sql.SQL("""
    select text.raw
      from (select distinct event.{raw} as raw
              from {table} as event
             where {in_range}
               and event.{raw} is not null and length(event.{raw}) <= {max_length}
               and (event.{link} is null or {lacks_geo})) as text
     where not exists (select from {map} as map where map.raw = text.raw)
""")

COUNT = sql.SQL("""
    select count(*), count(*) filter (where event.{raw} is not null and event.{link} is not null)
      from {table} as event where {in_range}
""")

# Emptied by each commit; statistics 0, or an autovacuum-less ANALYZE by hand would log the values.
# The geo arrives wrapped as the events want it, and is parsed once, by COPY.
INCOMING = sql.SQL("""
    create temporary table if not exists backfill_incoming (
        raw text, address text, hash text, geo jsonb, reason text
    ) on commit delete rows
""")

# Locks are taken in the order of the addresses: two upserts in opposite orders deadlock.
ADD_ADDRESSES = sql.SQL("""
    insert into {addresses} ({address}, {hash}, {geo})
    select distinct on (incoming.address::inet)
           incoming.address::inet, incoming.hash, incoming.geo -> 'geoip_info'
      from backfill_incoming as incoming
     where incoming.reason is null
       and not exists (select from {addresses} as known where known.{address} = incoming.address::inet)
     order by incoming.address::inet
    on conflict do nothing
""")

# The hash may already be another row's, the same address in another spelling: that one is told to
# the operator as a duplicate, and the canonical row waits without a hash.
ADD_WITHOUT_HASH = sql.SQL("""
    insert into {addresses} ({address}, {geo})
    select distinct on (incoming.address::inet) incoming.address::inet, incoming.geo -> 'geoip_info'
      from backfill_incoming as incoming
     where incoming.reason is null
       and not exists (select from {addresses} as known where known.{address} = incoming.address::inet)
     order by incoming.address::inet
    on conflict do nothing
""")

# What the live application left empty; what it wrote stays.
FILL_ADDRESSES = sql.SQL("""
    with wanted as materialized (
        select distinct on (known.{key}) known.{key} as key, incoming.hash, incoming.geo -> 'geoip_info' as geo
          from backfill_incoming as incoming
          join {addresses} as known on known.{address} = incoming.address::inet
         where incoming.reason is null
           and ((known.{hash} is null and not exists (
                    select from {addresses} as other where other.{hash} = incoming.hash))
                or (coalesce(known.{geo}, 'null'::jsonb) = 'null'::jsonb and incoming.geo is not null))
    ), locked as materialized (
        select known.{key} as key from {addresses} as known
         where known.{key} in (select key from wanted)
         order by known.{address}
           for update  -- filling a hash changes a unique key
    )
    update {addresses} as known
       set {hash} = coalesce(known.{hash}, case when not exists (
               select from {addresses} as other where other.{hash} = wanted.hash) then wanted.hash end),
           {geo} = coalesce(nullif(known.{geo}, 'null'::jsonb), wanted.geo)
      from wanted join locked using (key)
     where known.{key} = wanted.key
""")

# Geo for the events: what we looked up, else what the live application knows of the address, if it
# has no key that readers would choke on. Wrapped once here instead of once a row. In the order of
# the map's own index: entries in random order cost half as much again.
ADD_TO_MAP = sql.SQL("""
    insert into {map} (raw, address_id, geo, reason)
    select incoming.raw, known.{key},
           case when incoming.geo is not null then incoming.geo
                when jsonb_typeof(known.{geo}) = 'object' and known.{geo} <> '{{}}'::jsonb
                     and known.{geo} - {keys}::text[] = '{{}}'::jsonb
                then jsonb_build_object('geoip_info', known.{geo}) end,
           incoming.reason
      from backfill_incoming as incoming
      left join {addresses} as known on known.{address} = incoming.address::inet
     where incoming.reason is not null or known.{key} is not null
     order by incoming.raw
    on conflict do nothing
""")

ADD_LOOKUPS = sql.SQL("""
    insert into {lookups} (address_key, build, found)
    select distinct on (1) known.{key}::text, {build}, incoming.geo is not null
      from backfill_incoming as incoming
      join {addresses} as known on known.{address} = incoming.address::inet
     where incoming.reason is null
     order by 1
    on conflict do nothing
""")

# Rows that were there before keep for the fill phase what they lack: it reads the whole table anyway.
NEW_TEXTS = (ADD_ADDRESSES, ADD_LOOKUPS, ADD_TO_MAP)
LEFT_OVER = (ADD_WITHOUT_HASH, ADD_LOOKUPS, ADD_TO_MAP)  # where NEW_TEXTS entered fewer than came
KNOWN_ADDRESSES = (ADD_LOOKUPS, FILL_ADDRESSES)


def new_texts(connection: Connection, schema: str, job: Job, batch: Batch) -> list[str]:
    """Distinct texts of the range that need resolving and that the map lacks; at most 64 characters each."""
    statement = TEXTS.format(
        raw=sql.Identifier(job.raw),
        link=sql.Identifier(job.link),
        table=table(job),
        in_range=batch.range.holds("event"),
        max_length=sql.Literal(MAX_LENGTH),
        lacks_geo=lacks_geo(job),
        map=address_map.name(schema),
    )
    return [text for (text,) in rows(connection, statement)]


def enter(
    connection: Connection,
    schema: str,
    addresses: Addresses,
    resolver: Resolver,
    resolved: list[Resolved],
    statements: Sequence[sql.SQL],
) -> int:
    """COPY resolved texts in and run *statements* over them; returns the rows of the last one."""
    execute(connection, INCOMING)
    copy_in(connection, sql.Identifier("backfill_incoming"), Resolved._fields, resolved)
    return run(connection, schema, addresses, resolver, statements)


def run(
    connection: Connection,
    schema: str,
    addresses: Addresses,
    resolver: Resolver,
    statements: Sequence[sql.SQL],
) -> int:
    """Run *statements* over what ``enter`` copied in, in its transaction; returns the rows of the last one."""
    names = {
        "addresses": table(addresses),
        "key": sql.Identifier(addresses.key),
        "address": sql.Identifier(addresses.address),
        "hash": sql.Identifier(addresses.hash),
        "geo": sql.Identifier(addresses.geo),
        "map": address_map.name(schema),
        "lookups": sql.Identifier(schema, "geo_lookups"),
        "keys": sql.Literal(list(KEYS)),
        "build": sql.Literal(resolver.geo.provenance.build),
    }
    written = 0
    for statement in statements:
        with execute(connection, statement.format(**names)) as cursor:
            written = cursor.rowcount
    return written


def enter_all(
    connection: Connection, schema: str, addresses: Addresses, resolver: Resolver, resolved: list[Resolved]
) -> int:
    """Enter new texts into addresses and map; returns how many entered the map."""
    entered = enter(connection, schema, addresses, resolver, resolved, NEW_TEXTS)
    if entered < len(resolved):
        entered += run(connection, schema, addresses, resolver, LEFT_OVER)
    return entered


@dataclass(frozen=True)
class Ready:
    """A batch whose texts are read and computed, to be entered."""

    batch: Batch
    rows: int
    already_linked: int | None
    resolved: list[Resolved]
    seconds: float  # that reading took


def prepare(
    engine: Engine,
    schema: str,
    job: Job,
    resolver: Resolver,
    batch: Batch,
    in_flight: Set[str],
    limits: Limits,
    *,
    counting: bool,
) -> Ready:
    """Read and compute one range; texts *in_flight* are entered before it by somebody else."""
    total, already = 0, None
    began = time.monotonic()
    with engine.begin() as connection:
        limits.apply(connection)
        if counting:
            count = COUNT.format(
                raw=sql.Identifier(job.raw),
                link=sql.Identifier(job.link),
                table=table(job),
                in_range=batch.range.holds("event"),
            )
            ((total, already),) = rows(connection, count)
        texts = new_texts(connection, schema, job, batch)
    read = time.monotonic() - began
    resolved = list(resolver.resolve(text for text in texts if text not in in_flight))
    return Ready(batch, total, already, resolved, read)


def ahead(batches: Iterable[Batch], prepare: Callable[[Batch, Set[str]], Ready]) -> Iterator[Ready]:
    """Each of *batches* ready, the next one in the making meanwhile.

    While a batch is with the caller its texts are in flight: the map does not show them yet.
    """
    waiting = iter(batches)
    with ThreadPoolExecutor(1, "resolve-ahead") as thread:
        batch = next(waiting, None)
        coming = None if batch is None else thread.submit(prepare, batch, frozenset())
        while coming is not None:
            ready = coming.result()
            batch = next(waiting, None)
            texts = {one.raw for one in ready.resolved}
            coming = None if batch is None else thread.submit(prepare, batch, texts)
            yield ready


def process(
    engine: Engine,
    schema: str,
    addresses: Addresses,
    resolver: Resolver,
    ready: Ready,
    lease: uuid.UUID,
    limits: Limits,
) -> Account:
    """Enter one range. Raises ``LeaseLost``, and ``Stopped`` when the run is to wait or to end."""
    started = time.monotonic()
    batch, resolved = ready.batch, ready.resolved
    with engine.begin() as connection:
        limits.apply(connection)
        batches.hold(connection, batch, lease)
        entered = enter_all(connection, schema, addresses, resolver, resolved) if resolved else 0
        runs.add_map_rows(connection, batch.run_id, entered)
        seconds = max(ready.seconds, time.monotonic() - started)
        account = Account(
            rows=ready.rows, already_linked=ready.already_linked, written=entered, seconds=seconds
        )
        batches.account(connection, batch.id, account, seconds=seconds)
    return account
