"""``backfill run``, the whole command as an operator types it: start-up, calibration and closing count too."""

from dataclasses import dataclass

from benchmarks.command import types
from benchmarks.contenders import Work
from benchmarks.ground import Site
from tests.databases import query


@dataclass(frozen=True)
class OurRun:
    """In place, with its defaults except for the workers."""

    workers: int = 2
    watch: bool = True  # its memory
    complete: bool = True
    sampled: bool = False

    @property
    def name(self) -> str:
        """In the report."""
        return f"in place, {self.workers} worker{'s' if self.workers > 1 else ''}"

    def prepare(self, site: Site) -> None:
        """Nothing: the command makes its own ledger and map."""

    def run(self, site: Site) -> Work:
        """Run it; the longest transaction comes from the ledger."""
        words = ("run", "--quiet", "--log-format", "json", "--workers", str(self.workers))
        told = types(site, *words, watch=self.watch)
        ((longest,),) = query(site.url, "select max(longest) from backfill.batches")
        return Work(told.seconds, told.phases, float(longest), pss_bytes=told.pss_bytes or None)
