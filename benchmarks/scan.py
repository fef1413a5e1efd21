"""``python -m benchmarks.scan``: our scan against a bare regex pass over the same columns, in one run.

The bare pass is what one would type: count the values that match a pattern for IPv4 and IPv6, in one
statement. It says neither where in a document nor whether a match is a release number.
"""

import time
from collections.abc import Callable
from statistics import median

import click
from psycopg2 import sql
from sqlalchemy import Engine, make_url
from tabulate import tabulate

from backfill.database.connection import make_engine, value
from backfill.plan import PYPI
from backfill.scan.allowlist import AllowList
from backfill.scan.columns import columns
from backfill.scan.patterns import PREFILTER
from backfill.scan.scan import scan
from benchmarks import report
from benchmarks.ground import ground

BARE = (
    r"([0-9]{1,3}\.){3}[0-9]{1,3}"
    r"|([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,7}:|:(:[0-9A-Fa-f]{1,4}){1,7}"
)
MB = 1024 * 1024


def bare(engine: Engine, table: str, pattern: str = BARE) -> float:
    """Seconds of one statement over every column that the scan looks at."""
    with engine.connect() as connection:
        looked = columns(connection, "public", table)
        counts = [
            sql.SQL("count(*) filter (where {}::text ~ {})").format(
                sql.Identifier(one.name), sql.Literal(BARE)
            )
            for one in looked
        ]
        statement = sql.SQL("select {} from {}").format(
            sql.SQL(", ").join(counts), sql.Identifier("public", table)
        )
        started = time.perf_counter()
        value(connection, statement)
        return time.perf_counter() - started


def ours(engine: Engine, table: str) -> float:
    """Seconds of ``backfill scan --full --table TABLE``."""
    started = time.perf_counter()
    found = scan(
        engine,
        PYPI,
        AllowList(),
        schema="public",
        table=table,
        percent=100,
        rest=0,
        ledger="backfill",
        tell=lambda _: None,
    )
    assert list(found)
    return time.perf_counter() - started


@click.command()
@click.option("--events", default=500_000, show_default=True, help="Events of the demo database.")
@click.option("--repeat", default=3, show_default=True, help="Rounds; each contender once a round.")
@click.option("--table", default="user_events", show_default=True, help="The table to go through.")
def main(events: int, repeat: int, table: str) -> None:
    """Print both times and their ratio; 0.6 is what we ask of ourselves."""
    with ground(events) as field, field.site() as site:
        click.echo(report.about(field) + "\n")
        engine = make_engine(make_url(site.url), ledger_schema="backfill")
        contenders: dict[str, Callable[[Engine, str], float]] = {
            "bare regex pass": bare,
            "bare pass of our own pattern": lambda engine, table: bare(engine, table, PREFILTER),
            "backfill scan --full": ours,
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        bare(engine, table)  # both find the table in memory
        for _ in range(repeat):
            for name, contender in contenders.items():
                seconds[name].append(contender(engine, table))
        with engine.connect() as connection:
            size = (
                value(connection, sql.SQL("select pg_relation_size({}::regclass)").format(sql.Literal(table)))
                / MB
            )
        base = median(seconds["bare regex pass"])
        body = [
            [
                name,
                f"{median(times):.1f} ({min(times):.1f}–{max(times):.1f})",
                f"{size / median(times):.0f}",
                f"{base / median(times):.2f}",
            ]
            for name, times in seconds.items()
        ]
        click.echo(
            tabulate(
                body,
                ["contender", "seconds, median (range)", "MB heap/s", "ratio"],
                tablefmt="github",
                disable_numparse=True,
            )
        )
        engine.dispose()


if __name__ == "__main__":
    main()
