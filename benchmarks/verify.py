"""Verify: rows a second, and its time beside a bare full join of the same tables, in the same round.

The bare join is the least that a proof could cost: every row with its address row, one comparison,
one number out. On as many connections and over the same ranges of blocks as verify, so that what is compared is the
work and not the parallelism; and once more as one statement a table on a single connection.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from statistics import median

from sqlalchemy import make_url
from tabulate import tabulate

from backfill.coverage import events
from backfill.coverage.verify import WORK_MEM, Verifier
from backfill.database.engine import make_engine
from backfill.geo import open_geo
from backfill.plan import PYPI, Scheme
from benchmarks.ground import Ground, Site
from benchmarks.our_run import OurRun
from tests.databases import connect, query

WORKERS = 2
BARE = """
    select count(*) filter (where host(known.ip_address) = event.ip_address_string)
      from {table} as event left join ip_addresses as known on known.id = event.ip_address_id
"""


@dataclass(frozen=True)
class Round:
    """Seconds of one round."""

    rows: int
    verify: float  # all of it: hashes recomputed, rows judged, records entered
    bare: float  # the join on as many connections, by the same ranges
    single: float  # the join on one connection, a statement a table


def measure(field: Ground, rounds: int) -> list[Round]:
    """A site that our run has finished, verified *rounds* times."""
    with field.site() as site:
        OurRun().run(site)
        for job in PYPI.jobs:
            query(site.url, f"vacuum analyze {job.name}")
        query(site.url, "vacuum analyze ip_addresses")
        return [_round(site) for _ in range(rounds)]


def _round(site: Site) -> Round:
    rows = sum(query(site.url, f"select count(*) from {job.name}")[0][0] for job in PYPI.jobs)
    return Round(
        rows, _timed(lambda: _verify(site)), _timed(lambda: _bare(site)), _timed(lambda: _single(site))
    )


def _timed(work) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _verify(site: Site) -> None:
    engine = make_engine(make_url(site.url), ledger_schema="backfill")
    try:
        with open_geo(site.geo_path) as geo:
            Verifier(
                engine=engine,
                schema="backfill",
                plan=PYPI,
                fingerprint=PYPI.fingerprint("default"),
                hasher=site.salt.hasher(Scheme.SHA256_SUFFIX),
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
        for first in range(0, blocks, events.BLOCKS):
            span = f" where event.ctid >= '({first},0)' and event.ctid < '({first + events.BLOCKS},0)'"
            statements.append(BARE.format(table=job.name) + span)
    with ThreadPoolExecutor(WORKERS) as executor:
        list(executor.map(lambda statement: _ask(site, statement), statements))


def _single(site: Site) -> None:
    for job in PYPI.jobs:
        _ask(site, "set max_parallel_workers_per_gather = 0;" + BARE.format(table=job.name))


def table(found: list[Round]) -> str:
    """A line for each road; ratios within each round."""
    body = [
        [
            name,
            f"{median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})",
            f"{found[0].rows / median(seconds):,.0f}",
            f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
        ]
        for name, seconds, ratios in (
            (
                "verify, two connections",
                [one.verify for one in found],
                [one.verify / one.bare for one in found],
            ),
            ("bare join, two connections, same ranges", [one.bare for one in found], [1.0 for _ in found]),
            (
                "bare join, one connection",
                [one.single for one in found],
                [one.single / one.bare for one in found],
            ),
        )
    ]
    header = ["road", "seconds, median (range)", "rows/s", "time / bare join on two, median (range)"]
    return tabulate(body, header, tablefmt="github", disable_numparse=True)
