"""``backfill run --strategy shadow`` to the serving copy: comparison, settlement and cut-over included."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

from backfill.plan import EVENT_TABLES, PYPI
from benchmarks.contenders import Work
from benchmarks.ground import Site
from benchmarks.our_run import environment, seconds_by_phase
from tests.databases import query


@dataclass(frozen=True)
class OurShadow:
    """Every command that an operator types, one after the other."""

    workers: int = 2
    name: str = "backfill run --strategy shadow, two workers"
    complete: bool = False  # the raw column, by which the rows are told apart, is gone

    def prepare(self, site: Site) -> None:
        """Nothing."""

    def run(self, site: Site) -> Work:
        """Copy and compare; settle; swap."""

        def types(*words: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "backfill", *words],
                env=environment(site),
                check=True,
                capture_output=True,
                text=True,
            )
            return done.stdout

        def waiting(name: str) -> int:
            return len(json.loads(types("quarantine", "list", name, "--format", "json")))

        started = time.monotonic()
        types("run", "--strategy", "shadow", "--hold-cutover", "--quiet", "--workers", str(self.workers))
        copied = time.monotonic()
        for name in EVENT_TABLES:
            types("quarantine", "settle", name, "--as", "sentinel", "--count", str(waiting(name)))
        types("addresses", "merge", "--count", str(waiting(PYPI.addresses.name)))
        settled = time.monotonic()
        types("cutover", *EVENT_TABLES)
        ended = time.monotonic()
        ((longest,),) = query(site.url, "select max(longest) from backfill.batches")
        parts = {"run": copied - started, "settle": settled - copied, "cutover": ended - settled}
        return Work(ended - started, parts=parts | seconds_by_phase(site), longest=float(longest))
