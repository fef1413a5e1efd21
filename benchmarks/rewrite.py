"""VACUUM FULL of the finished tables: a rewrite that does nothing, and so the floor of any rewrite."""

import subprocess
import time
from dataclasses import dataclass

from backfill.plan import EVENT_TABLES
from benchmarks.contenders import Work
from benchmarks.ground import Site
from benchmarks.our_run import command, environment
from tests.databases import query


@dataclass(frozen=True)
class Rewrite:
    """Five statements, after a run that is not timed."""

    name: str = "VACUUM FULL of the finished tables"
    complete: bool = False  # links nothing

    def prepare(self, site: Site) -> None:
        """The run whose result is rewritten."""
        subprocess.run(command(), env=environment(site), check=True, stdout=subprocess.DEVNULL)
        query(site.url, "checkpoint")

    def run(self, site: Site) -> Work:
        """Rewrite; the longest transaction is the largest table's."""
        longest, began = 0.0, time.monotonic()
        for name in EVENT_TABLES:
            started = time.monotonic()
            query(site.url, f"vacuum full {name}")
            longest = max(longest, time.monotonic() - started)
        return Work(time.monotonic() - began, longest=longest)
