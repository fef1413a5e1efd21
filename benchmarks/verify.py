"""Verify: rows a second, and its time beside a bare full join of the same tables, in the same round.

The bare join is the least that a proof could cost: every row with its address row, one comparison,
one number out. On as many connections as verify and by ranges of blocks, so that what is compared is the work and
not the parallelism; and once more as one statement a table on a single connection. CPU time is shown beside the
clock, since other work on the same machine moves it less.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from statistics import median

import psutil
from sqlalchemy import make_url
from tabulate import tabulate

from backfill.database.blocks import even_ranges
from backfill.database.connection import make_engine
from backfill.geo.sources import open_geo
from backfill.hashing.sha256 import SHA256_SUFFIX
from backfill.plan import PYPI
from backfill.verify.classification import canonical
from backfill.verify.verifier import WORK_MEM, Verifier
from benchmarks.ground import Ground, Site
from benchmarks.measure import SETTLE_SECONDS, cpu_seconds
from benchmarks.our_run import OurRun
from tests.databases import connect, query

WORKERS = 2
BARE_BLOCKS = 40_000  # of a statement; measured no slower than 20,000, nor than whole tables
BARE = """
    select count(*) filter (where host(known.ip_address) = event.ip_address_string)
      from {table} as event left join ip_addresses as known on known.id = event.ip_address_id
"""


@dataclass(frozen=True)
class Cost:
    """What one road cost."""

    seconds: float
    cpu: float  # of server and client together


@dataclass(frozen=True)
class Round:
    """One round."""

    rows: int
    verify: Cost  # all of it: hashes recomputed, rows judged, records entered
    bare: Cost  # the join on as many connections, by ranges of blocks
    single: Cost  # the join on one connection, a statement a table


def measure(field: Ground, rounds: int) -> list[Round]:
    """A site that our run has finished, verified *rounds* times."""
    server = psutil.Process(field.postmaster())
    with field.site() as site:
        OurRun().run(site)
        for job in PYPI.jobs:
            query(site.url, f"vacuum analyze {job.name}")
        query(site.url, "vacuum analyze ip_addresses")
        return [_round(site, server) for _ in range(rounds)]


def _round(site: Site, server: psutil.Process) -> Round:
    rows = sum(query(site.url, f"select count(*) from {job.name}")[0][0] for job in PYPI.jobs)
    return Round(rows, *(_cost(server, partial(work, site)) for work in (_verify, _bare, _single)))


def _cost(server: psutil.Process, work: Callable[[], None]) -> Cost:
    time.sleep(SETTLE_SECONDS)
    cpu, started = cpu_seconds(server), time.monotonic()
    work()
    seconds = time.monotonic() - started
    time.sleep(SETTLE_SECONDS)
    return Cost(seconds, cpu_seconds(server) - cpu)


def _verify(site: Site) -> None:
    canonical.cache_clear()  # as in a process of its own
    engine = make_engine(make_url(site.url), ledger_schema="backfill")
    try:
        with open_geo(site.geo_path, PYPI.geo.keys) as geo:
            Verifier(
                engine=engine,
                schema="backfill",
                plan=PYPI,
                fingerprint=PYPI.fingerprint("default"),
                hasher=site.salt.hasher(SHA256_SUFFIX.name),
                geo=geo,
                tell=lambda line: None,
                workers=WORKERS,
            ).verify()
    finally:
        engine.dispose()


def _ask(site: Site, statement: str) -> None:
    with closing(connect(site.url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"set work_mem = '{WORK_MEM}'; set jit = off")
        cursor.execute(statement)
        cursor.fetchall()


def _bare(site: Site) -> None:
    statements = []
    for job in PYPI.jobs:
        blocks = query(site.url, f"select pg_relation_size('{job.name}') / 8192")[0][0]
        for span in even_ranges(blocks, BARE_BLOCKS):
            where = f" where event.ctid >= '({span.first},0)' and event.ctid < '({span.last},0)'"
            statements.append((span.last - span.first, BARE.format(table=job.name) + where))
    with ThreadPoolExecutor(WORKERS) as executor:
        list(executor.map(lambda statement: _ask(site, statement[1]), sorted(statements, reverse=True)))


def _single(site: Site) -> None:
    for job in PYPI.jobs:
        _ask(site, "set max_parallel_workers_per_gather = 0;" + BARE.format(table=job.name))


def table(found: list[Round]) -> str:
    """A line for each road; ratios within each round."""
    body = []
    for name, road in (
        ("verify, two connections", [one.verify for one in found]),
        ("bare join, two connections, by ranges", [one.bare for one in found]),
        ("bare join, one connection", [one.single for one in found]),
    ):
        bare = [one.bare for one in found]
        body.append(
            [
                name,
                _spread([one.seconds for one in road]),
                f"{found[0].rows / median(one.seconds for one in road):,.0f}",
                _spread([one.seconds / other.seconds for one, other in zip(road, bare, strict=True)]),
                _spread([one.cpu for one in road]),
                _spread([one.cpu / other.cpu for one, other in zip(road, bare, strict=True)]),
            ]
        )
    header = [
        "road",
        "seconds",
        "rows/s",
        "time / bare join on two",
        "CPU s, server and client",
        "CPU / bare join on two",
    ]
    return "Medians, and ranges in brackets.\n\n" + tabulate(
        body, header, tablefmt="github", disable_numparse=True
    )


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
