"""``backfill run --strategy shadow`` to the serving copy: comparison, settlement and cut-over included."""

import json
from dataclasses import dataclass

from backfill.plan import EVENT_TABLES, PYPI
from benchmarks.command import Told, types
from benchmarks.contenders import Work
from benchmarks.ground import Site
from tests.databases import query


@dataclass(frozen=True)
class OurShadow:
    """Every command that an operator types, one after the other.

    What waits in the quarantine has to be settled before a cut-over. That is a decision of the
    operator's, which a run in place needs later as well: its commands are timed apart.
    """

    workers: int = 2
    watch: bool = True  # its memory
    complete: bool = False  # the raw column, by which the rows are told apart, is gone
    sampled: bool = False

    @property
    def name(self) -> str:
        """In the report."""
        return f"shadow copy, {self.workers} worker{'s' if self.workers > 1 else ''}"

    def prepare(self, site: Site) -> None:
        """Nothing."""

    def run(self, site: Site) -> Work:
        """Copy and compare; settle; swap."""

        def backfill(*words: str) -> Told:
            return types(site, *words, watch=self.watch)

        def waiting(name: str) -> int:
            return len(json.loads(backfill("quarantine", "list", name, "--format", "json").output)["rows"])

        words = ("--postpone-cutover", "--quiet", "--log-format", "json", "--workers", str(self.workers))
        copied = backfill("run", "--strategy", "shadow", *words)
        settled = 0.0
        for name in EVENT_TABLES:
            if number := waiting(name):
                settled += backfill(
                    "quarantine", "settle", name, "--as", "sentinel", "--count", str(number)
                ).seconds
        if number := waiting(PYPI.addresses.name):
            settled += backfill("addresses", "merge", "--count", str(number)).seconds
        swapped = backfill("cutover", *EVENT_TABLES)
        ((longest,),) = query(site.url, "select max(longest) from backfill.batches")
        return Work(
            copied.seconds + swapped.seconds,
            copied.phases | {"cut-over": swapped.seconds, "settle (not counted)": settled},
            float(longest),
            pss_bytes=max(copied.pss_bytes, swapped.pss_bytes) or None,
        )
