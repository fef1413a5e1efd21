"""Addresses: is every stored hash what the formula makes of its address?

All of them are recomputed here, in the client. The result stays in a temporary table, against
which the event tables are checked.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import canonicalise
from backfill.coverage.record import Kind, Record, shortfall
from backfill.database.engine import copy_in, execute, rows
from backfill.database.heap import heap_of, ranges
from backfill.database.inspection import has_column, key_type
from backfill.database.names import table
from backfill.plan import Addresses

TABLE = sql.Identifier("backfill_proof_addresses")
STAGE = sql.Identifier("backfill_proof_stage")
BLOCKS = 5_000

CREATE = sql.SQL("""
    create temporary table {proof} (
        key {key_type} primary key, address text, canonical boolean, sentinel boolean, hash text, geo boolean);
    alter table {proof} alter address set statistics 0;
    create temporary table {stage} (
        key text, address text, canonical boolean, sentinel boolean, hash text, geo boolean
    ) on commit delete rows
""")

KEEP = sql.SQL(
    "insert into {proof} select key::{key_type}, address, canonical, sentinel, hash, geo from {stage}"
)

ROWS = sql.SQL("""
    select known.{key}::text, host(known.{address}), masklen(known.{address}), known.{hash},
           coalesce(known.{geo}, 'null'::jsonb) <> 'null'::jsonb
      from {addresses} as known
     where {in_range}
""")

# Of one address in several rows, one carries the hash. Those merged on record are settled.
COUNT = sql.SQL("""
    with twin as (
        select key, hash, row_number() over (partition by address order by canonical desc, key) > 1 as other
          from {proof} where address is not null
    ), merged as (
        select row_key from {quarantine}
         where table_name = {name} and decision_id is not null
    )
    select count(*),
           count(*) filter (where not waiting and proof.hash = 'right'),
           count(*) filter (where not waiting and proof.hash = 'wrong'),
           count(*) filter (where not waiting and proof.hash = 'missing'),
           count(*) filter (where waiting),
           count(*) filter (where twin.other and not waiting),
           count(*) filter (where proof.geo),
           count(proof.address)
      from {proof} as proof
      left join twin using (key)
      cross join lateral (select coalesce(twin.other, false)
            and proof.key::text not in (select row_key from merged) as waiting) as state
""")

GEO = sql.SQL("""
    select count(*) filter (where exists (
               select from {lookups} as lookup where lookup.address_key = proof.key::text and not lookup.found)),
           count(*) filter (where not exists (
               select from {lookups} as lookup where lookup.address_key = proof.key::text))
      from {proof} as proof where not proof.geo
""")

# Once the address is gone, the form of the hash is all that is left to check.
HASHES_ONLY = sql.SQL("""
    select count(*),
           count(*) filter (where known.{hash} ~ '^[0-9a-f]{{64}}$'),
           count(*) filter (where known.{hash} !~ '^[0-9a-f]{{64}}$'),
           count(*) filter (where known.{hash} is null),
           count(*) filter (where coalesce(known.{geo}, 'null'::jsonb) <> 'null'::jsonb)
      from {addresses} as known
""")


def _judged(
    found: list[tuple[str, str | None, int, str | None, bool]], sentinel: str, hasher: Callable[[str], str]
) -> Iterator[list[str | bool | None]]:
    for key, host, masklen, live, geo in found:
        if host is None:  # a row that the application made after the address column became optional
            yield [key, None, True, False, "right" if live else "missing", geo]
            continue
        address = canonicalise(host)
        if not isinstance(address, IPv4Address | IPv6Address):
            raise TypeError("host() gave no address")  # inet holds nothing else
        full = masklen == (128 if ":" in host else 32)
        canonical = full and address.version == (6 if ":" in host else 4)
        rightful = {hasher(str(address))}
        if not canonical:  # the edge may have seen, and hashed, this very spelling
            rightful.add(hasher(host if full else f"{host}/{masklen}"))
        state = "missing" if live is None else "right" if live in rightful else "wrong"
        yield [
            key,
            str(address),
            canonical,
            str(address) == sentinel,
            state,
            geo,
        ]


def read(connection: Connection, addresses: Addresses, hasher: Callable[[str], str]) -> None:
    """Fill the temporary table: key, canonical address, what the hash is worth."""
    names = {"proof": TABLE, "stage": STAGE, "key_type": sql.SQL(key_type(connection, addresses))}
    execute(connection, CREATE.format(**names))
    if not has_column(connection, addresses, addresses.address):
        return
    for span in ranges(heap_of(connection, addresses).blocks, BLOCKS):
        statement = ROWS.format(
            key=sql.Identifier(addresses.key),
            address=sql.Identifier(addresses.address),
            hash=sql.Identifier(addresses.hash),
            geo=sql.Identifier(addresses.geo),
            addresses=table(addresses),
            in_range=span.holds("known"),
        )
        judged = _judged(rows(connection, statement), addresses.sentinel, hasher)
        copy_in(connection, STAGE, ["key", "address", "canonical", "sentinel", "hash", "geo"], judged)
        execute(connection, KEEP.format(**names))
        connection.commit()
    execute(connection, sql.SQL("analyze {}").format(TABLE))


def verify(connection: Connection, schema: str, addresses: Addresses) -> Record:
    """The address table's record; needs ``read`` before."""
    names = {
        "proof": TABLE,
        "quarantine": sql.Identifier(schema, "quarantine"),
        "lookups": sql.Identifier(schema, "geo_lookups"),
        "name": sql.Literal(addresses.name),
        "hash": sql.Identifier(addresses.hash),
        "geo": sql.Identifier(addresses.geo),
        "addresses": table(addresses),
    }
    if not has_column(connection, addresses, addresses.address):
        ((total, right, wrong, missing, geo),) = rows(connection, HASHES_ONLY.format(**names))
        counts = {
            "rows": total,
            "hash right": right,
            "hash wrong": wrong,
            "hash missing": missing,
            "geo": geo,
        }
        return Record(
            table=addresses.name,
            kind=Kind.ADDRESSES,
            covered=wrong == missing == 0,
            counts=counts,
            reasons=tuple(
                shortfall(
                    wrong, "hashes are not 64 lower-case hex digits", "look at the application's writes"
                )
                + shortfall(missing, "rows have no hash", "look at the application's writes")
            ),
            raw_rows=0,
        )
    ((total, right, wrong, missing, waiting, merged, geo, raw),) = rows(connection, COUNT.format(**names))
    ((absent, never),) = rows(connection, GEO.format(**names))
    counts = {
        "rows": total,
        "hash right": right,
        "hash wrong": wrong,
        "hash missing": missing,
        "duplicates": waiting,
        "merged": merged,
        "geo": geo,
        "geo looked up, absent": absent,
        "geo never looked up": never,
    }
    reasons = (
        shortfall(
            waiting,
            "rows are the same address as another row",
            f"`backfill addresses merge --count {waiting}`",
        )
        + shortfall(missing, "rows have no hash", "`backfill run`")
        + shortfall(
            wrong,
            "hashes are not what salt and scheme make of the address",
            "`backfill calibrate` tells whether the salt is right",
        )
    )
    return Record(
        table=addresses.name,
        kind=Kind.ADDRESSES,
        covered=not reasons,
        counts=counts,
        reasons=tuple(reasons),
        raw_rows=raw,
    )


def wrong_keys(connection: Connection, limit: int) -> tuple[str, ...]:
    """Keys of some rows whose hash is wrong."""
    statement = sql.SQL("select key::text from {} where hash = 'wrong' order by 1 limit %s").format(TABLE)
    return tuple(key for (key,) in rows(connection, statement, (limit,)))
