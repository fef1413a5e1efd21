"""VACUUM FULL of the finished tables: a rewrite that does nothing, and so the floor of any rewrite.

Finished means: as our run in place leaves them, linked and with geo, the raw column still there. It
is the same work for the server as the shadow copy's, without computing anything: read, write, build
the indexes again.
"""

import time
from dataclasses import dataclass

from backfill.plan import EVENT_TABLES
from benchmarks.contenders import FLOOR, Work
from benchmarks.ground import Site
from benchmarks.our_run import OurRun
from tests.databases import query

FINISHED = 0.95  # links to texts: a few texts are no address


@dataclass(frozen=True)
class Rewrite:
    """Five statements, after a run that is not timed."""

    name: str = FLOOR
    complete: bool = False  # links nothing
    sampled: bool = False

    def prepare(self, site: Site) -> None:
        """The run whose result is rewritten."""
        OurRun(watch=False).run(site)
        for name in EVENT_TABLES:
            ((texts, links),) = query(
                site.url, f"select count(ip_address_string), count(ip_address_id) from {name}"
            )
            if links < texts * FINISHED:
                raise SystemExit(f"{name} is not finished: {texts:,} texts, {links:,} links")
        query(site.url, "checkpoint")

    def run(self, site: Site) -> Work:
        """Rewrite; the longest transaction is the largest table's."""
        longest, began = 0.0, time.monotonic()
        for name in EVENT_TABLES:
            started = time.monotonic()
            query(site.url, f"vacuum full {name}")
            longest = max(longest, time.monotonic() - started)
        return Work(time.monotonic() - began, longest=longest)
