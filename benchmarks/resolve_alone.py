"""Resolve beside a bare COPY + INSERT of values that were computed before, into the same tables.

The bare load is what any resolve must at least do: COPY into a temporary table, then new rows into
``ip_addresses`` with its unique indexes, and into the map with its own, one transaction, even the keys
drawn before. What our resolve does besides: it reads the distinct texts out of the events, looks which
addresses are known, canonicalises, hashes, locates, notes each lookup, and works in batches with a
checkpoint each.
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from psycopg2 import sql
from sqlalchemy import Connection
from tabulate import tabulate

from backfill.database.connection import copy_in, execute, rows
from backfill.geo.sources import open_geo
from backfill.jobs.resolver import Resolved, Resolver
from backfill.ledger import address_map
from backfill.plan import PYPI
from benchmarks import whole_resolve
from benchmarks.ground import Ground, Site
from benchmarks.our_run import OurRun
from tests.databases import query

INCOMING = sql.SQL("""
    create temporary table bare_incoming (
        raw text, id text, new boolean, address text, hash text, geo jsonb, reason text
    ) on commit drop
""")
COLUMNS = ("raw", "id", "new", "address", "hash", "geo", "reason")

ADDRESSES = sql.SQL("""
    insert into ip_addresses (id, ip_address, hashed_ip_address, geoip_info)
    select id::uuid, address::inet, hash, geo -> 'geoip_info' from bare_incoming where new order by address::inet
""")
MAP = sql.SQL("""
    insert into {} (raw, address_id, geo, reason) select raw, id::uuid, geo, reason from bare_incoming order by raw
""")


@dataclass(frozen=True)
class Round:
    """Seconds of one round."""

    texts: int
    resolve: float  # the phase of a whole run, by its own log
    copy: float
    insert: float

    @property
    def bare(self) -> float:
        """COPY and INSERT."""
        return self.copy + self.insert


def measure(field: Ground, rounds: int) -> list[Round]:
    """Both, one after the other, each on a fresh copy."""
    found = []
    for _ in range(rounds):
        with field.site() as site:
            spent = OurRun(watch=False).run(site).parts["resolve"]
        with field.site() as site:
            found.append(_bare(site, spent))
    return found


def _bare(site: Site, spent: float) -> Round:
    engine = whole_resolve.ready(site)
    try:
        with open_geo(site.geo_path, PYPI.geo.keys) as geo, engine.connect() as connection:
            resolver = Resolver(site.salt.hasher(PYPI.hash.scheme), geo)
            values = list(_computed(connection, resolver))
            address_map.create(connection, whole_resolve.SCHEMA, PYPI.addresses)
            connection.commit()
            query(site.url, "checkpoint")
            began = time.monotonic()
            execute(connection, INCOMING)
            copy_in(connection, sql.Identifier("bare_incoming"), COLUMNS, values)
            copied = time.monotonic()
            execute(connection, ADDRESSES)
            execute(connection, MAP.format(address_map.name(whole_resolve.SCHEMA)))
            connection.commit()
            ended = time.monotonic()
    finally:
        engine.dispose()
    return Round(len(values), spent, copied - began, ended - copied)


def _computed(connection: Connection, resolver: Resolver) -> Iterator[tuple]:
    """A row for each distinct text, the key of its address with it; hashes that are taken are left out."""
    known = dict(rows(connection, sql.SQL("select host(ip_address), id::text from ip_addresses")))
    taken = {text for (text,) in rows(connection, sql.SQL("select hashed_ip_address from ip_addresses"))}
    texts: list[str] = [text for (text,) in rows(connection, whole_resolve.TEXTS)]
    one: Resolved
    for one in resolver.resolve(texts):
        new = one.address is not None and one.address not in known
        if new:
            known[one.address] = str(uuid.uuid4())
        key = None if one.address is None else known[one.address]
        free = one.hash if one.hash not in taken else None
        taken.add(one.hash)
        yield (one.raw, key, new, one.address, free, one.geo, one.reason)


def table(found: list[Round]) -> str:
    """One line; the ratio within each round."""
    ratios = [one.resolve / one.bare for one in found]
    line = [
        f"{found[0].texts:,}",
        *(
            f"{median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"
            for seconds in (
                [one.resolve for one in found],
                [one.bare for one in found],
                [one.copy for one in found],
                [one.insert for one in found],
                ratios,
            )
        ),
    ]
    header = [
        "texts",
        "resolve s",
        "bare COPY + INSERT s",
        "of which COPY",
        "of which INSERT",
        "resolve / bare",
    ]
    return tabulate([line], header, tablefmt="github", disable_numparse=True)
