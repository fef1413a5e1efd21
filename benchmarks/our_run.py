"""``backfill run``, the whole command as an operator types it: start-up, calibration and closing count too."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass

from sqlalchemy import make_url

from benchmarks.contenders import Work
from benchmarks.ground import Site
from tests.databases import query


def environment(site: Site) -> dict[str, str]:
    """The variables that an operator would set for that site, and none that happen to be set here."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("BACKFILL_")}
    return clean | {
        "BACKFILL_DATABASE_URL": make_url(site.url).render_as_string(hide_password=False),
        "BACKFILL_IP_SALT_FILE": str(site.salt_file),
        "BACKFILL_GEOIP_DB": str(site.geo_path),
    }


def command(*options: str) -> list[str]:
    """``backfill run`` by the interpreter that runs us."""
    return [sys.executable, "-m", "backfill", "run", "--quiet", *options]


def seconds_by_phase(site: Site) -> dict[str, float]:
    """Seconds in transactions by phase, summed over workers; from the ledger."""
    found = query(
        site.url, "select phase, sum(seconds) from backfill.batches group by phase order by min(id)"
    )
    return {phase: float(seconds) for phase, seconds in found}


@dataclass(frozen=True)
class OurRun:
    """The command with its defaults."""

    options: tuple[str, ...] = ("--workers", "2")
    name: str = "backfill run, two workers"
    complete: bool = True

    def prepare(self, site: Site) -> None:
        """Nothing: the command makes its own ledger and map."""

    def run(self, site: Site) -> Work:
        """Run it; the longest transaction comes from the ledger."""
        started = time.monotonic()
        subprocess.run(command(*self.options), env=environment(site), check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        ((longest,),) = query(site.url, "select max(longest) from backfill.batches")
        return Work(seconds, parts=seconds_by_phase(site), longest=float(longest))
