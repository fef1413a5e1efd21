"""Memory: what the whole process tree of ``backfill run`` holds, sampled while it works."""

import subprocess
import time
from dataclasses import dataclass

import psutil

from benchmarks.ground import Ground
from benchmarks.our_run import command, environment

EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Peak:
    """The largest sum seen."""

    pss_bytes: int  # shared pages counted once, split among those who share them
    processes: int
    seconds: float  # of the whole command, sampling included
    samples: int


def peak(ground: Ground) -> Peak:
    """Run the command on a fresh copy and watch it."""
    with ground.site() as site:
        started = time.monotonic()
        process = subprocess.Popen(
            command("--workers", "2"), env=environment(site), stdout=subprocess.DEVNULL
        )
        most, at_most, samples = 0, 0, 0
        while process.poll() is None:
            held, number = tree_pss(process.pid)
            samples += 1
            if held > most:
                most, at_most = held, number
            time.sleep(EVERY_SECONDS)
        if process.returncode:
            raise SystemExit(f"backfill run ended with {process.returncode}")
        return Peak(most, at_most, time.monotonic() - started, samples)


def tree_pss(pid: int) -> tuple[int, int]:
    """Sum of PSS over the process and all below it, and their number; those that just ended count nothing."""
    held = number = 0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0, 0
    for one in family:
        try:
            held += one.memory_full_info().pss
            number += 1
        except psutil.NoSuchProcess:
            continue
    return held, number
