"""Commands of ours, typed as an operator would, and watched from outside: memory, and the phases they tell of."""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import psutil
from sqlalchemy import make_url

from benchmarks.ground import Site

EVERY_SECONDS = 0.5  # a look costs some 10 ms of one core


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


@dataclass
class Told:
    """What became of one command."""

    seconds: float
    pss_bytes: int  # the largest sum seen over its process tree; 0 where nobody looked
    output: str
    phases: dict[str, float] = field(default_factory=dict)  # wall seconds, by the log's own clock


def types(site: Site, *words: str, watch: bool = True) -> Told:
    """Run ``backfill`` with *words* to its end, which has to be a good one."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "backfill", *words], env=environment(site), stdout=output, stderr=errors
        )
        most = wait(process, watch=watch)
        seconds = time.monotonic() - began
        output.seek(0)
        errors.seek(0)
        said, log = output.read(), errors.read()
    if process.returncode:
        raise SystemExit(f"backfill {' '.join(words)} ended with {process.returncode}: {said}{log}")
    return Told(seconds, most, said, _phases(log))


def wait(process: "subprocess.Popen[str]", *, watch: bool) -> int:
    """Until *process* ends; returns the largest sum of PSS seen over its tree, in bytes, or 0 where nobody looked."""
    most = 0
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(EVERY_SECONDS if watch else None)
        most = max(most, tree_pss(process.pid)) if watch else 0
    return most


def tree_pss(pid: int) -> int:
    """Sum of PSS over the process and all below it: shared pages are counted once."""
    held = 0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in family:
        try:
            held += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return held


def _phases(log: str) -> dict[str, float]:
    """Seconds between one ``phase`` event of a JSON log and the next; sweeps are one phase."""
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    marks = [event for event in events if event["event"] in ("phase", "finished")]
    found: dict[str, float] = {}
    for mark, following in pairwise(marks):
        name = str(mark.get("phase", "")).partition("-")[0]
        lasted = datetime.fromisoformat(following["timestamp"]) - datetime.fromisoformat(mark["timestamp"])
        found[name] = found.get(name, 0.0) + lasted.total_seconds()
    return found
