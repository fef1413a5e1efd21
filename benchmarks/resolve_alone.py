"""Resolve beside a bare COPY + INSERT of values that were computed before, into the same tables.

The bare load is what any resolve must at least do: COPY into a temporary table, then new rows into
``ip_addresses`` with its unique indexes, then into the map with its own, one transaction. What our
resolve does besides: it reads the distinct texts out of the events, canonicalises, hashes, locates,
notes each lookup, and works in batches with a checkpoint each.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from psycopg2 import sql
from tabulate import tabulate

from backfill.database.engine import copy_in, execute, rows
from backfill.geo import open_geo
from backfill.jobs.resolve import ADD_ADDRESSES, ADD_TO_MAP, INCOMING, Resolved, Resolver, run
from backfill.ledger import address_map
from backfill.plan import PYPI
from benchmarks import whole_resolve
from benchmarks.ground import Ground, Site
from benchmarks.our_run import OurRun
from tests.databases import query


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
        with open_geo(site.geo_path) as geo, engine.begin() as connection:
            resolver = Resolver(site.salt.hasher(PYPI.hash.scheme), geo)
            texts = [text for (text,) in rows(connection, whole_resolve.TEXTS)]
            values = list(resolver.resolve(texts))
            address_map.create(connection, whole_resolve.SCHEMA, PYPI.addresses)
            execute(connection, INCOMING)
            connection.commit()
            query(site.url, "checkpoint")
            began = time.monotonic()
            copied = _load(connection, values)
            run(connection, whole_resolve.SCHEMA, PYPI.addresses, resolver, (ADD_ADDRESSES, ADD_TO_MAP))
            connection.commit()
            ended = time.monotonic()
    finally:
        engine.dispose()
    return Round(len(values), spent, copied - began, ended - copied)


def _load(connection, values: Iterable[Resolved]) -> float:
    copy_in(connection, sql.Identifier("backfill_incoming"), Resolved._fields, values)
    return time.monotonic()


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
