"""Addresses: is every stored hash what the formula makes of its address?

All of them are recomputed here, in the client. On record go the keys of rows that are not plainly
right, and no address: the event tables are checked against the address table itself.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import canonicalise
from backfill.database.blocks import Range
from backfill.database.columns import column_type, has_column
from backfill.database.connection import copy_in, execute, rows, value
from backfill.database.decodable import decodable, if_decodable
from backfill.database.quoting import table
from backfill.database.shown_key import shown_keys
from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord, Evidence, Kind
from backfill.ledger.verification_ranges import RangeCounts
from backfill.plan import Addresses
from backfill.verify import reasons
from backfill.verify.classification import HASH_COUNTS, HASH_MISSING, HASH_RIGHT, hash_state, plain_states
from backfill.verify.lookups import AddressLookups
from backfill.verify.places import has_place

BLOCKS = 2_000  # 16 MB: about 50,000 addresses, a tenth of a second of the client's time
KEYS_SHOWN = 20
NO_HASH = sql.Literal("")

ROWS = sql.SQL("""
    select known.{key}::text, host(known.{address}), masklen(known.{address}), {readable_hash}
      from {addresses} as known
     where {in_range}
""")

# Of nearly every range this is all that is needed: two texts instead of a tuple a row, which costs psycopg2
# more than hashing it costs us. Separated by what neither holds; a hash that holds it is not right.
# The few others come as rows beside them.
PLAIN = sql.SQL("""
    select count(*) filter (where plain),
           string_agg(host, ' ') filter (where plain), string_agg(hash, ' ') filter (where plain),
           array_agg(array[key::text, host, bits::text, {readable}]) filter (where not plain)
      from (select known.{key} as key, host(known.{address}) as host, masklen(known.{address}) as bits,
                   known.{hash}::text as hash, coalesce({plain}, false) as plain
              from {addresses} as known
             where {in_range}
            offset 0) as found  -- not flattened, or each row is worked out four times
""")
IS_PLAIN = sql.SQL("""(
    {decodable} and known.{address} is not null  -- and there is a hash
    and case family(known.{address}) when 4 then masklen(known.{address}) = 32
        else masklen(known.{address}) = 128 and strpos(host(known.{address}), '.') = 0 end  -- IPv4 in IPv6: apart
)""")

# A row the application made or changed after its range was read has a newer transaction number.
SINCE = sql.SQL("age(known.xmin) <= age(%s::xid)")

ODD = sql.SQL("""
    select odd.address_key, host(known.{address}), odd.hash
      from {odd} as odd join {addresses} as known on known.{key} {equals} odd.address_key::{key_type}
     where odd.odd and odd.verification_id = {number}
     order by known.{key}
""")
CANONICAL = sql.SQL("""
    select spelling.address
      from backfill_verify_spellings as spelling
      join {addresses} as known on known.{address} = spelling.address::inet
""")
MERGED = sql.SQL("select row_key from {quarantine} where job = %s and decision_id is not null")

# With a checksum of all keys, hashes and eight bits of each address, as conditions.hashes() makes it: the last drop asks whether it is still that.
TOTALS = sql.SQL("""
    select count(*), count({address}),
           coalesce(bit_xor(hash_record_extended(row({key}, {hash}, hashinet({address}) & 255), 0)) filter (where {address} is not null), 0)
      from {addresses}
""")
NETWORKS = sql.SQL("""
    select count(*) from {addresses}
     where {hash} is null and masklen({address}) < case family({address}) when 4 then 32 else 128 end
""")
# Of the address table, by reason: what only an operator can decide.
WAITING = sql.SQL("""
    select reason, count(*) from {quarantine} where job = %s and decision_id is null group by reason
""")
AMISS = sql.SQL("""
    select count(*) filter (where hash = 'wrong' and not odd),
           count(*) filter (where hash = 'missing' and not odd), count(*) filter (where odd)
      from {odd} where verification_id = {number}
""")

# Only these make an event's row a suspect.
HASHES_AMISS = sql.SQL("""
    select exists (select from {odd} as odd where odd.verification_id = {number} and odd.hash <> 'right')
""")

# Once the address is gone, the form of the hash is all that is left to check.
HASHES_ONLY = sql.SQL("""
    select count(*),
           count(*) filter (where known.{hash} ~ '^[0-9a-f]{{64}}$'),
           count(*) filter (where known.{hash} !~ '^[0-9a-f]{{64}}$'),
           count(*) filter (where known.{hash} is null),
           count(*) filter (where {has_place})
      from {addresses} as known
""")


@dataclass(frozen=True)
class AddressVerifier:
    """What the passes over the address table need."""

    schema: str
    addresses: Addresses
    hasher: Callable[[str], str]
    number: int  # of the verification

    @property
    def names(self) -> dict[str, sql.Composable]:
        """For the statements of this file."""
        part = self.addresses
        return {
            "key": sql.Identifier(part.key),
            "address": sql.Identifier(part.address),
            "hash": sql.Identifier(part.hash),
            # What cannot be decoded is no hash: the empty text stands for it.
            "readable_hash": if_decodable(sql.Identifier("known", part.hash), NO_HASH),
            "readable": if_decodable(sql.SQL("hash"), NO_HASH),
            "decodable": decodable(sql.Identifier("known", part.hash)),
            "has_place": has_place(sql.Identifier("known", part.geo)),
            "addresses": table(part),
            "odd": sql.Identifier(self.schema, "verification_addresses"),
            "quarantine": sql.Identifier(self.schema, "quarantine"),
            "number": sql.Literal(self.number),
        }

    def read(self, connection: Connection, span: Range, slot: AbstractContextManager[Any]) -> RangeCounts:
        """Judge one range, and put what is not plainly right on record; returns the rows read. *slot*: to ask the server in."""
        names = self.names | {"in_range": span.holds("known"), "plain": IS_PLAIN.format(**self.names)}
        with slot:
            ((number, hosts, hashes, others),) = rows(connection, PLAIN.format(**names))
        if number == 0 or plain_states(hosts.split(" "), hashes.split(" "), self.hasher):
            odd = [(key, host, bits and int(bits), live) for key, host, bits, live in others or ()]
        else:  # at least one is not right: each is looked at
            number, odd = 0, rows(connection, ROWS.format(**names))
        self._record(connection, [row for row in self._judged(odd) if row[1] != HASH_RIGHT or row[2]])
        return RangeCounts(counts={Count.ROWS: number + len(odd)})

    def read_again(self, connection: Connection, transaction: str) -> None:
        """Judge what came or changed since that transaction."""
        found = rows(connection, ROWS.format(in_range=SINCE, **self.names), (transaction,))
        self._record(connection, list(self._judged(found)))

    def hashes_amiss(self, connection: Connection) -> bool:
        """Whether a hash of the ranges read so far is wrong or missing."""
        return bool(value(connection, HASHES_AMISS.format(**self.names)))

    def _judged(self, found: list[tuple[Any, ...]]) -> Iterator[tuple[str, str, bool]]:
        for key, host, masklen, live in found:
            if host is None:  # made by the application after the address column became optional
                yield key, HASH_MISSING if live is None else HASH_RIGHT, False
                continue
            state, canonical, _ = hash_state(host, masklen, live, self.hasher)
            yield key, state, not canonical

    def _record(self, connection: Connection, classified: list[tuple[str, str, bool]]) -> None:
        if not classified:
            return
        execute(
            connection,
            sql.SQL(
                "create temporary table backfill_verify_stage (key text, hash text, odd boolean) on commit drop"
            ),
        )
        copy_in(connection, sql.Identifier("backfill_verify_stage"), ["key", "hash", "odd"], classified)
        execute(
            connection,
            sql.SQL("""
                delete from {odd} as odd using backfill_verify_stage as stage
                 where odd.verification_id = {number} and odd.address_key = stage.key;
                insert into {odd} (verification_id, address_key, hash, odd)
                select {number}, key, hash, odd from backfill_verify_stage where hash <> 'right' or odd
            """).format(**self.names),
        )

    def _odd_counts(self, connection: Connection) -> Counter[Count]:
        """Odd spellings: of one address in several rows one carries the hash; those merged are settled."""
        kind = column_type(connection, self.addresses, self.addresses.key)
        found = rows(connection, ODD.format(key_type=sql.SQL(kind.name), equals=kind.equals, **self.names))
        counts: Counter[Count] = Counter()
        if not found:
            return counts
        merged = {key for (key,) in rows(connection, MERGED.format(**self.names), (self.addresses.identity,))}
        spelled = {key: str(canonicalise(host)) for key, host, _ in found}
        execute(
            connection,
            sql.SQL("create temporary table backfill_verify_spellings (address text) on commit drop"),
        )
        spellings = sql.Identifier("backfill_verify_spellings")
        copy_in(connection, spellings, ["address"], ([text] for text in dict.fromkeys(spelled.values())))
        carried = {text for (text,) in rows(connection, CANONICAL.format(**self.names))}
        for key, _, state in found:
            other = spelled[key] in carried
            carried.add(spelled[key])
            if other and key not in merged:
                counts[Count.DUPLICATES] += 1
                continue
            counts[Count.MERGED] += other
            counts[HASH_COUNTS[state]] += 1
        return counts

    def verdict(self, connection: Connection, transaction: str, geo: AddressLookups) -> CoverageRecord:
        """The table's record. In one snapshot, so that no row is counted that was not judged."""
        part = self.addresses
        if not has_column(connection, part, part.address):
            return self._hashes_only(connection)
        connection.commit()
        execute(connection, sql.SQL("set transaction isolation level repeatable read"))
        self.read_again(connection, transaction)
        ((total, raw, checksum),) = rows(connection, TOTALS.format(**self.names))
        ((wrong, missing, odd),) = rows(connection, AMISS.format(**self.names))
        spelled = self._odd_counts(connection)
        networks = int(value(connection, NETWORKS.format(**self.names)))
        listed = dict(rows(connection, WAITING.format(**self.names), (part.identity,)))
        counts = {
            Count.ROWS: total,
            Count.HASH_RIGHT: total - wrong - missing - odd + spelled[Count.HASH_RIGHT],
            Count.HASH_WRONG: wrong + spelled[Count.HASH_WRONG],
            Count.HASH_MISSING: missing - networks + spelled[Count.HASH_MISSING],
            Count.NETWORKS: networks,
            Count.DUPLICATES: spelled[Count.DUPLICATES],
            Count.MERGED: spelled[Count.MERGED],
            Count.GEO: total - geo.absent - geo.never - geo.lost,
            Count.GEO_ABSENT: geo.absent,
            Count.GEO_NEVER_LOOKED_UP: geo.never,
            Count.GEO_REMOVED_AGAIN: geo.lost,
        }
        amiss = reasons.of_addresses(part, counts, listed)
        return CoverageRecord(
            job=part.identity,
            table=part.label,
            kind=Kind.ADDRESSES,
            covered=not amiss,
            counts=counts,
            reasons=tuple(amiss),
            raw_rows=raw,
            evidence=Evidence(hash_checksum=str(checksum)),
            wrong_keys=self._wrong_keys(connection) if counts[Count.HASH_WRONG] else (),
            geo_builds=geo.builds,
        )

    def _wrong_keys(self, connection: Connection) -> tuple[str, ...]:
        statement = sql.SQL("""
            select address_key from {odd} where verification_id = {number} and hash = 'wrong' order by 1 limit %s
        """).format(**self.names)
        found = rows(connection, statement, (KEYS_SHOWN,))
        return tuple(map(shown_keys(connection, self.addresses), (key for (key,) in found)))

    def _hashes_only(self, connection: Connection) -> CoverageRecord:
        found = rows(connection, HASHES_ONLY.format(**self.names))
        ((total, right, wrong, missing, geo),) = found
        look = "look at the application's writes"
        amiss = reasons.shortfall(
            wrong, "hash is not 64 lower-case hex digits", "hashes are not 64 lower-case hex digits", look
        )
        amiss += reasons.shortfall(missing, "row has no hash", "rows have no hash", look)
        return CoverageRecord(
            job=self.addresses.identity,
            table=self.addresses.label,
            kind=Kind.ADDRESSES,
            covered=not amiss,
            counts={
                Count.ROWS: total,
                Count.HASH_OF_RIGHT_FORM: right,
                Count.HASH_WRONG: wrong,
                Count.HASH_MISSING: missing,
                Count.GEO: geo,
            },
            reasons=tuple(amiss),
            raw_rows=0,
        )


def current_transaction(connection: Connection) -> str:
    """The oldest transaction still under way: whatever is committed later has this number or a newer one."""
    return str(
        value(
            connection, sql.SQL("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296")
        )
    )
