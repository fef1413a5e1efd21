"""Merge: duplicate rows of the address table give their events, and the stricter ban, to one of them.

The empty duplicate stays: deletes cascade to events. It keeps, or gets, the hash of its own
spelling, which is what the edge makes of it should it ever see that spelling again.
"""

from collections.abc import Callable

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.blocks import heap_of, ranges
from backfill.database.columns import column_type, has_column
from backfill.database.connection import copy_in, execute, rows, value
from backfill.database.quoting import regclass, table
from backfill.database.write_check import collisions_told, require_no_rule, require_taken
from backfill.database.writing import writes
from backfill.errors import SchemaUnfit, WrongCount
from backfill.jobs import duplicates
from backfill.jobs.duplicates import Twins
from backfill.ledger import decisions, quarantine
from backfill.plan import Addresses
from backfill.raw_column import Table

BLOCKS = 5_000

PAIRS = sql.SQL("create temporary table backfill_pairs (other text, keep text, own_hash text, hash text)")

# What follows writes the application's tables, under its search_path: all is qualified.
# Every column that references the address table, in the plan or not: an event left behind would
# lose its address with the duplicate.
REFERENCES = sql.SQL("""
    select n.nspname, c.relname, a.attname
      from pg_constraint as k
      join pg_class as c on c.oid = k.conrelid
      join pg_namespace as n on n.oid = c.relnamespace
      join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.conkey[1]
     where k.contype = 'f' and k.confrelid = {addresses} and k.conparentid = 0
     order by 1, 2, 3
""")

REPOINT = sql.SQL("""
    update {table} as event set {link} = pair.keep::{key_type}
      from pg_temp.backfill_pairs as pair
     where event.{link} {equals} pair.other::{key_type} and {in_range}
    returning event.ctid::pg_catalog.text, event.{link} {equals} pair.keep::{key_type}
""")

# Where they lie before, which no row does afterwards that was changed: a trigger may pass over one without a word.
# What a trigger made of one that was changed is returned.
POINTING = sql.SQL("""
    select event.ctid::text from {table} as event
      join pg_temp.backfill_pairs as pair on event.{link} {equals} pair.other::{key_type}
     where {in_range}
""")
STILL = sql.SQL("""
    select event.ctid::text from {table} as event
      join pg_temp.backfill_pairs as pair on event.{link} {equals} pair.other::{key_type}
     where event.ctid = any (%s::tid[]) or {ours}
""")
# A trigger may have put it back, or moved it and skipped our change, in a version of its own, wherever that lies: the
# whole table is read. What we see of a transaction in progress is ours, subtransactions of a trigger's included.
OURS = sql.SQL("""
    case when age(event.xmin) <= age(pg_current_xact_id()::xid)
         then pg_xact_status((pg_current_xact_id()::text::bigint + age(pg_current_xact_id()::xid)
                              - age(event.xmin))::text::xid8) = 'in progress'
         else false end
""")
AFTER_TRIGGER = sql.SQL("""
    select exists (select from pg_trigger where tgrelid = {table} and not tgisinternal and tgenabled in ('O', 'A')
                      and tgtype & 16 <> 0 and tgtype & 2 = 0)
""")

BAN = sql.SQL("""
    update {addresses} as keep
       set {banned} = true, {reason} = other.{reason}, {date} = other.{date}
      from pg_temp.backfill_pairs as pair
      join {addresses} as other on other.{key} {equals} pair.other::{key_type}
     where keep.{key} {equals} pair.keep::{key_type} and other.{banned} and not keep.{banned}
""")

# First away from the duplicate, then to the row that keeps it: the hash is unique.
OWN_HASH = sql.SQL("""
    update {addresses} as other
       set {hash} = pair.own_hash
      from pg_temp.backfill_pairs as pair
     where other.{key} {equals} pair.other::{key_type}
       and (other.{hash} is null or other.{hash} {hash_equals} pair.hash::{hash_type})
""")
HASH = sql.SQL("""
    update {addresses} as keep
       set {hash} = pair.hash
      from pg_temp.backfill_pairs as pair
     where keep.{key} {equals} pair.keep::{key_type} and keep.{hash} is null
""")

# What the statements above leave to do, which is nothing where all rows took it.
UNBANNED = sql.SQL("""
    select distinct pair.keep from pg_temp.backfill_pairs as pair
      join {addresses} as other on other.{key} {equals} pair.other::{key_type}
      join {addresses} as keep on keep.{key} {equals} pair.keep::{key_type}
     where other.{banned} and not keep.{banned}
""")
UNHASHED = sql.SQL("""
    select pair.other from pg_temp.backfill_pairs as pair
      join {addresses} as other on other.{key} {equals} pair.other::{key_type}
     where other.{hash} is null or other.{hash} {hash_equals} pair.hash::{hash_type}
     union
    select pair.keep from pg_temp.backfill_pairs as pair
      join {addresses} as keep on keep.{key} {equals} pair.keep::{key_type}
     where keep.{hash} is null
""")


def merge(engine: Engine, schema: str, addresses: Addresses, hasher: Callable[[str], str], count: int) -> int:
    """Merge all duplicates that wait in the quarantine; returns how many. Raises ``WrongCount``."""
    found = _waiting(engine, addresses)
    if len(found) != count:
        raise WrongCount(
            subject=f"Duplicates of {addresses.name}",
            given=count,
            found=len(found),
            look="backfill addresses merge",
        )
    if not found:
        return 0
    with engine.connect() as connection:
        execute(connection, PAIRS)
        records = [
            (row.key, pair.keep, _own_hash(hasher, pair, row), hasher(pair.address)) for pair, row in found
        ]
        copy_in(connection, sql.Identifier("backfill_pairs"), ["other", "keep", "own_hash", "hash"], records)
        connection.commit()
        _repoint(connection, schema, addresses)
        with connection.begin():
            kind = column_type(connection, addresses, addresses.key)
            hash_type = column_type(connection, addresses, addresses.hash)
            names = {
                "addresses": table(addresses),
                "key": sql.Identifier(addresses.key),
                "hash": sql.Identifier(addresses.hash),
                "key_type": sql.SQL(kind.name),
                "equals": kind.equals,
                "hash_type": sql.SQL(hash_type.name),
                "hash_equals": hash_type.equals,
            }
            if addresses.banned and addresses.ban_reason and addresses.ban_date:
                ban = BAN.format(
                    banned=sql.Identifier(addresses.banned),
                    reason=sql.Identifier(addresses.ban_reason),
                    date=sql.Identifier(addresses.ban_date),
                    **names,
                )
                with writes(connection, addresses):
                    execute(connection, ban)
                unbanned = UNBANNED.format(banned=sql.Identifier(addresses.banned), **names)
                kept = [key for (key,) in rows(connection, unbanned)]
                require_taken(connection, schema, addresses, addresses.banned, kept, len(found))
            with writes(connection, addresses):
                execute(connection, OWN_HASH.format(**names))
                execute(connection, HASH.format(**names))
            kept = [key for (key,) in rows(connection, UNHASHED.format(**names))]
            require_taken(connection, schema, addresses, addresses.hash, kept, 2 * len(found))
            decision = decisions.record(connection, "merge", addresses.identity, len(found))
            quarantine.decide(connection, addresses.identity, [row.key for _, row in found], decision)
        connection.invalidate()
    return len(found)


def would_merge(engine: Engine, addresses: Addresses) -> int:
    """The count that ``merge`` would find now."""
    return len(_waiting(engine, addresses))


def _waiting(engine: Engine, addresses: Addresses) -> list[tuple[Twins, duplicates.OddRow]]:
    with engine.begin() as connection:
        if not has_column(connection, addresses, addresses.address):
            raise SchemaUnfit(
                problem=f"{addresses.name}.{addresses.address} is gone: duplicates cannot be told."
            )
        waiting = {entry.key for entry in quarantine.entries(connection, addresses.identity)}
        twins, _ = duplicates.find_duplicates(connection, addresses)
    return [(pair, row) for pair in twins for row in pair.others if row.key in waiting]


def _own_hash(hasher: Callable[[str], str], pair: Twins, row: duplicates.OddRow) -> str:
    """The hash of the row's own spelling, which is not the canonical one."""
    return hasher(row.spelling)


def _repoint(connection: Connection, schema: str, addresses: Addresses) -> None:
    """Block range by block range: the link is not indexed. A repeat finds nothing left to do.

    Raises ``ChangeNotTaken``, ``SchemaUnfit``, ``RowsCollide``.
    """
    kind = column_type(connection, addresses, addresses.key)
    references = [
        (Table(table=name, schema=space), link)
        for space, name, link in rows(connection, REFERENCES.format(addresses=regclass(addresses)))
    ]
    for part, _ in references:
        require_no_rule(connection, part)
    for part, link in references:
        puts_back = value(connection, AFTER_TRIGGER.format(table=regclass(part)))
        for span in ranges(heap_of(connection, part).blocks, BLOCKS):
            connection.commit()
            with connection.begin():
                # A guarded table lets only this through: the address stays the same.
                execute(connection, sql.SQL("set local backfill.repairing = 'on'"))
                names = {
                    "table": table(part),
                    "link": sql.Identifier(link),
                    "key_type": sql.SQL(kind.name),
                    "equals": kind.equals,
                    "in_range": span.holds("event"),
                }
                places = [place for (place,) in rows(connection, POINTING.format(**names))]
                if not places:
                    continue
                with collisions_told(part, link), writes(connection, part):
                    changed = rows(connection, REPOINT.format(**names))
                ours = OURS if puts_back or len(changed) < len(places) else sql.SQL("false")
                still = STILL.format(ours=ours, **names)
                kept = [place for (place,) in rows(connection, still, (places,))]
                kept += [place for place, right in changed if not right]
                require_taken(
                    connection, schema, part, link, [f"ctid {place}" for place in kept], len(places)
                )
    connection.commit()
