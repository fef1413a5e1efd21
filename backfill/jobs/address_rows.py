"""Address rows: what is resolved enters the address table and, with its row there, the map; what rows lack is filled.

The client has computed it (``resolver``); each text is looked for among the addresses once, in one statement.
"""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import column_type
from backfill.database.connection import copy_in, execute, value
from backfill.database.quoting import table
from backfill.database.writing import writes
from backfill.jobs.resolver import Resolved, Resolver
from backfill.jobs.row_needs import lacks_place, readable_place
from backfill.ledger import address_map
from backfill.plan import Addresses

# Emptied by each commit; statistics 0, or an autovacuum-less ANALYZE by hand would log the values.
# The geo arrives wrapped as the events want it, and is parsed once, by COPY.
INCOMING = sql.SQL("""
    create temporary table if not exists backfill_incoming (
        raw text, address text, hash text, geo jsonb, reason text, lost text
    ) on commit delete rows
""")

# One statement, so that each text is looked for among the addresses once: apart, the three inserts
# joined three times and took half as long again (5.5 s against 3.8 for 197,000 texts). LIMIT keeps the
# planner from hashing the whole address table for a batch of a few thousand texts.
# Geo for the events: what we looked up, else what the live application knows of the address, if it
# has no key that readers would choke on. Wrapped once here instead of once a row.
# Locks are taken in the order of the addresses: two upserts in opposite orders deadlock. The map is
# entered in the order of its own index: entries in random order cost half as much again.
# Both it and FILL_ADDRESSES write the application's table: under its search_path, so all is qualified.
ENTER = sql.SQL("""
    with matched as materialized (
        select incoming.raw, incoming.address::pg_catalog.inet as address, incoming.hash, incoming.geo, incoming.reason,
               known.key,
               case when incoming.geo is not null then incoming.geo
                    when {readable} then pg_catalog.jsonb_build_object('geoip_info', known.geo) end as event_geo
          from pg_temp.backfill_incoming as incoming
          left join lateral (select known.{key} as key, known.{geo} as geo from {addresses} as known
                              where known.{address} OPERATOR(pg_catalog.=) incoming.address::pg_catalog.inet
                              limit 1) as known on true
    ), added as (
        insert into {addresses} ({columns})
        select distinct on (address) {values} from matched
         where reason is null and key is null
         order by address
        on conflict do nothing
        returning {key} as key, {address} as address
    ), placed as materialized (
        select matched.raw, coalesce(matched.key, added.key) as key, matched.geo, matched.event_geo, matched.reason
          from matched left join added on added.address OPERATOR(pg_catalog.=) matched.address
    ), looked as (
        insert into {lookups} (address_key, source, build, found)
        select distinct on (1) key::pg_catalog.text, {source}, {build}::pg_catalog.timestamptz, geo is not null from placed
         where key is not null
         order by 1
        on conflict do nothing
    ), entered as (
        insert into {map} (raw, address_id, geo, reason)
        select raw, key, event_geo, reason from placed
         where reason is not null or key is not null
         order by raw
        on conflict do nothing
        returning 1
    )
    select pg_catalog.count(*) from entered
""")
# The hash may already be another row's, the same address in another spelling: that one is told to
# the operator as a duplicate, and the canonical row waits without a hash.
PLACE = "geo OPERATOR(pg_catalog.->) 'geoip_info'"
WITH_HASH = (("address", "address"), ("hash", "hash"), ("geo", PLACE))
WITHOUT_HASH = (("address", "address"), ("geo", PLACE))

# What the live application left empty; what it wrote stays. Joined by LIMIT and array, as above: a hash
# of the whole address table for each batch took three times as long.
FILL_ADDRESSES = sql.SQL("""
    with wanted as materialized (
        select distinct on (known.key) known.key, incoming.hash, incoming.geo OPERATOR(pg_catalog.->) 'geoip_info' as geo
          from pg_temp.backfill_incoming as incoming
         cross join lateral (select known.{key} as key, known.{hash} as hash, known.{geo} as geo
                               from {addresses} as known
                              where known.{address} OPERATOR(pg_catalog.=) incoming.address::pg_catalog.inet
                              limit 1) as known
          left join lateral (select true as taken from {addresses} as other
                              where other.{hash} {hash_equals} incoming.hash::{hash_type} limit 1) as other on true
         where incoming.reason is null
           and ((known.hash is null and other.taken is null) or ({lacks_place} and incoming.geo is not null))
    ), locked as materialized (
        select known.{key} as key from {addresses} as known
         where known.{key} {equals} any (array(select key from wanted))
         order by known.{address}
           for update  -- filling a hash changes a unique key
    )
    update {addresses} as known
       set {hash} = coalesce(known.{hash}, case when not exists (
               select from {addresses} as other
                where other.{hash} {hash_equals} wanted.hash::{hash_type}) then wanted.hash end),
           {geo} = case when {known_lacks_place} then coalesce(wanted.geo, known.{geo}) else known.{geo} end
      from wanted
     where known.{key} {equals} wanted.key
       -- all of them first; joined, the planner nests both loops
       and (select pg_catalog.count(*) from locked) OPERATOR(pg_catalog.>=) 0
""")

# Rows that were there before keep for the fill phase what they lack: it reads the whole table anyway.
ADD_LOOKUPS = sql.SQL("""
    insert into {lookups} (address_key, source, build, found)
    select distinct on (1) known.{key}::text, {source}, {build}::pg_catalog.timestamptz, incoming.geo is not null
      from backfill_incoming as incoming
      join {addresses} as known on known.{address} = incoming.address::inet
     where incoming.reason is null
     order by 1
    on conflict do nothing
""")


# Named by row key, so that somebody can look: the rest of the place is there.
ADD_LOST = sql.SQL("""
    insert into {lost} (job, row_key, field)
    select distinct {address_table}, known.{key}::text, field
      from backfill_incoming as incoming
     cross join string_to_table(incoming.lost, ',') as field
      join {addresses} as known on known.{address} = incoming.address::inet
     where incoming.lost is not null
    on conflict do nothing
""")


def enter(
    connection: Connection, schema: str, addresses: Addresses, resolver: Resolver, resolved: list[Resolved]
) -> int:
    """Enter new texts into addresses and map; returns how many entered the map."""
    _copy(connection, resolved)
    names = _names(schema, addresses, resolver)
    entered = 0
    for columns in (WITH_HASH, WITHOUT_HASH):
        statement = ENTER.format(
            **names,
            columns=sql.SQL(", ").join(names[column] for column, _ in columns),
            values=sql.SQL(", ").join(sql.SQL(text) for _, text in columns),
        )
        with writes(connection, addresses):
            entered += int(value(connection, statement))
        if entered >= len(resolved):
            break
    _note_lost(connection, names, resolved)
    return entered


def fill(
    connection: Connection, schema: str, addresses: Addresses, resolver: Resolver, resolved: list[Resolved]
) -> int:
    """Give rows of the address table what they lack of *resolved*; returns how many were written."""
    _copy(connection, resolved)
    hashed = column_type(connection, addresses, addresses.hash)
    names = _names(schema, addresses, resolver) | {
        "equals": column_type(connection, addresses, addresses.key).equals,
        "hash_type": sql.SQL(hashed.name),
        "hash_equals": hashed.equals,
    }
    execute(connection, ADD_LOOKUPS.format(**names)).close()
    _note_lost(connection, names, resolved)
    with writes(connection, addresses), execute(connection, FILL_ADDRESSES.format(**names)) as cursor:
        return cursor.rowcount


def _note_lost(connection: Connection, names: dict[str, sql.Composable], resolved: list[Resolved]) -> None:
    if any(one.lost for one in resolved):
        execute(connection, ADD_LOST.format(**names)).close()


def _copy(connection: Connection, resolved: list[Resolved]) -> None:
    execute(connection, INCOMING).close()
    copy_in(connection, sql.Identifier("backfill_incoming"), Resolved._fields, resolved)


def _names(schema: str, addresses: Addresses, resolver: Resolver) -> dict[str, sql.Composable]:
    return {
        "addresses": table(addresses),
        "address_table": sql.Literal(addresses.identity),
        "key": sql.Identifier(addresses.key),
        "address": sql.Identifier(addresses.address),
        "hash": sql.Identifier(addresses.hash),
        "geo": sql.Identifier(addresses.geo),
        "map": address_map.name(schema),
        "lookups": sql.Identifier(schema, "geo_lookups"),
        "lost": sql.Identifier(schema, "lost_fields"),
        "readable": readable_place(sql.SQL("known.geo"), resolver.geo.keys),
        "lacks_place": lacks_place(sql.SQL("known.geo")),
        "known_lacks_place": lacks_place(sql.Identifier("known", addresses.geo)),
        "source": sql.Literal(resolver.geo.provenance.database_type),
        # As text: the driver writes a time with "::timestamptz", which goes by the path.
        "build": sql.Literal(resolver.geo.provenance.build.isoformat()),
    }
