"""``python -m benchmarks.due``: a due run of few rows, beside one UPDATE of as many from a finished map.

The table has an index on its time. Its first due run is given consent and is not measured; then as many rows again
come of age. Of either side the server says what each statement took that names the table (``log_statement_stats``):
its own time and its CPU time, planning included. Start-up, settings and ledger are in the whole command.
"""

import json
import re
import tempfile
import time
from pathlib import Path

import click

from backfill.embedded import EmbeddedServer
from benchmarks.ground import SEASON
from benchmarks.kinds import BECOMES, FILL, MAP
from tests.conftest import temporary_home
from tests.databases import query
from tests.rewritten import operator, plan_file, run

ENTRY = re.compile(
    r"!\t([\d.]+) s user, ([\d.]+) s system, ([\d.]+) s elapsed(?:(?!QUERY STATISTICS).)*?STATEMENT:\s+(.*?)(?=\n\d{4}-)",
    re.DOTALL,
)
UPDATE = """
    update logins set ip = known.becomes from known
     where known.raw = logins.ip and at < now() - interval '90 days' and ip < 'fd'
"""


def come_of_age(url: str, first: int, number: int) -> None:
    """Those rows, by key, become old enough."""
    query(
        url,
        f"update logins set at = now() - interval '200 days' where id > {first} and id <= {first + number}",
    )
    query(url, "vacuum analyze logins")
    query(url, "checkpoint")


def statements(log: Path, start: int) -> tuple[int, float, float]:
    """Of those since *start* that name the table: their number, seconds, and CPU seconds."""
    time.sleep(1)  # the log is written by another process
    found = [
        (float(elapsed), float(user) + float(system))
        for user, system, elapsed, text in ENTRY.findall(log.read_bytes()[start:].decode() + "\n0000-")
        if "logins" in text and not text.startswith(("vacuum", "checkpoint"))
    ]
    return len(found), sum(elapsed for elapsed, _ in found), sum(cpu for _, cpu in found)


@click.command()
@click.option("--rows", default=2_000_000, show_default=True)
@click.option("--addresses", default=200_000, show_default=True)
@click.option("--due", default=2_000, show_default=True, help="Rows that come of age.")
@click.option("--rounds", default=3, show_default=True)
def main(rows: int, addresses: int, due: int, rounds: int) -> None:
    """Measure, and print one line of JSON a round."""
    with temporary_home() as home, tempfile.TemporaryDirectory() as folder:
        url = EmbeddedServer(home).ensure()
        for statement in SEASON:
            query(url, statement)
        query(url, FILL.replace("%%", "%").format(rows=rows, addresses=addresses))
        query(url, "create index on logins (at)")
        query(url, MAP.format(becomes=BECOMES["pseudonym"]).replace("; checkpoint", ""))
        query(url, "alter system set log_statement_stats = on")
        query(url, "select pg_reload_conf()")
        (log,) = home.rglob("server.log")
        plan = plan_file(
            Path(folder),
            {"table": "logins", "raw": "ip", "becomes": "pseudonym", "unreadable": "refuse", "time": "at", "after": "90 days"},
        )  # fmt: skip
        who = operator(url, home, plan)
        come_of_age(url, 0, due)
        run(who, "--due", "--quiet")
        for number in range(rounds):
            come_of_age(url, (2 * number + 1) * due, due)
            start, began = log.stat().st_size, time.monotonic()
            who.types("run", "--due", "--quiet")
            whole = time.monotonic() - began
            ours = statements(log, start)
            come_of_age(url, (2 * number + 2) * due, due)
            start = log.stat().st_size
            query(url, UPDATE)
            bare = statements(log, start)
            told = {
                "round": number + 1,
                "statements": ours[0],
                "seconds": round(ours[1], 3),
                "CPU seconds": round(ours[2], 3),
                "of the UPDATE": round(bare[1], 3),
                "its CPU seconds": round(bare[2], 3),
                "times its seconds": round(ours[1] / bare[1], 2),
                "times its CPU seconds": round(ours[2] / bare[2], 2),
                "whole command": round(whole, 2),
            }
            click.echo(json.dumps(told))


if __name__ == "__main__":
    main()
