"""``python -m benchmarks.access_logs``: lines a second of ``backfill logs``, beside anonip, on one file in one run.

anonip is a program of its own environment (``pip install anonip``); without --anonip it is left out.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

SALT = "a salt for the benchmark of logs"
AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
)


def write_log(path: Path, lines: int, addresses: int) -> None:
    """A log of the combined format."""
    draw = random.Random(1)
    known = [
        f"{draw.randint(1, 223)}.{draw.randint(0, 255)}.{draw.randint(0, 255)}.7" for _ in range(addresses)
    ]
    with path.open("w") as file:
        for number in range(lines):
            file.write(
                f"{draw.choice(known)} - - [26/Nov/2026:20:52:{number % 60:02} +0000] "
                f'"GET /simple/p{number % 997}/ HTTP/1.1" 200 {number} "https://pypi.org/" "{AGENT}"\n'
            )


def bare_loop(log: Path) -> None:
    """The least that any tool has to do."""
    known: dict[bytes, bytes] = {}
    with log.open("rb") as source, Path(os.devnull).open("wb") as out:
        for line in source:
            client, _, rest = line.partition(b" ")
            out.write(known.setdefault(client, client) + b" " + rest)


def cpu_seconds(words: list[str], log: Path) -> float:
    """Of a program that reads *log* and writes to nowhere, its start included."""
    before = os.times()
    with log.open("rb") as source:
        environment = os.environ | {"BACKFILL_IP_SALT": SALT}
        subprocess.run(
            words,
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            env=environment,
        )
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@click.command()
@click.option("--lines", default=300_000, show_default=True)
@click.option("--addresses", default=20_000, show_default=True)
@click.option("--repeat", default=3, show_default=True, help="Rounds; the best counts.")
@click.option("--anonip", type=click.Path(exists=True), help="The program anonip, of its own environment.")
def main(lines: int, addresses: int, repeat: int, anonip: str | None) -> None:
    """Print CPU time and lines a second of each."""
    ours = [sys.executable, "-m", "backfill", "logs"]
    contenders = {"backfill logs": ours, "backfill logs --anywhere": [*ours, "--anywhere"]}
    if anonip:
        contenders["anonip"] = [anonip]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "access.log")
        write_log(log, lines, addresses)
        print(
            f"{lines:,} lines, {addresses:,} addresses, {log.stat().st_size / 1e6:.0f} MB; CPU time, start included"
        )
        for name, words in contenders.items():
            best = min(cpu_seconds(words, log) for _ in range(repeat))
            print(f"{name:26} {best:6.2f} s {lines / best:10,.0f} lines/s")
        began = time.process_time()
        bare_loop(log)
        print(
            f"{'a bare loop':26} {time.process_time() - began:6.2f} s {lines / (time.process_time() - began):10,.0f} lines/s"
        )


if __name__ == "__main__":
    main()
