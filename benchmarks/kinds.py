"""``python -m benchmarks.kinds``: values rewritten in place, kind by kind, beside one UPDATE from a finished map.

The table is text, with 200 bytes beside the address and no index on it. Both sides find every text resolved: the
UPDATE has a map of its own, with an index and statistics, that is not counted; of ours the link phase is compared, and the
whole command told beside it. Rounds alternate. The size is that against a fresh rewrite of the same rows.

``--pganonymize PROGRAM``: the whole command for hashes beside that program's md5 provider, which is installed elsewhere.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
from sqlalchemy import make_url

from backfill.embedded import EmbeddedServer
from benchmarks.command import wait
from benchmarks.ground import SEASON
from benchmarks.report import MB
from tests.conftest import temporary_home
from tests.databases import query
from tests.rewritten import confirmed, operator, plan_file

FILL = """
    create table logins (id bigint generated always as identity primary key, ip text, note text, at timestamptz);
    insert into logins (ip, note, at)
    select host('11.0.0.0'::inet + (i * 7919::bigint) %% {addresses} * 61), repeat('x', 200),
           now() - interval '1 second' * ({rows} - i)
      from generate_series(1, {rows}) as i;
"""
MAP = """
    create unlogged table known (raw text collate "C" primary key, becomes text);
    insert into known select ip, {becomes} from (select distinct ip from logins) as text;
    analyze known; analyze logins; checkpoint
"""
# What each kind makes of a text, by the server alone: as long as ours, and nothing else is asked of it here.
BECOMES = {
    "pseudonym": "host(('fd5a:' || rtrim(regexp_replace(left(encode(sha256(ip::bytea), 'hex'), 28), '(.{4})', '\\1:', 'g'), ':'))::inet)",
    "hash": "encode(sha256(ip::bytea), 'hex')",
    "network": "host(network(set_masklen(ip::inet, 24)))",
}
# The second column has other addresses beside the first one's, of the same ones.
SECOND = """
    alter table logins add last_ip text;
    update logins set last_ip = host('11.0.0.0'::inet + (id * 104729::bigint) %% {addresses} * 61);
"""
UPDATE_BOTH = """
    update logins set ip = known.becomes, last_ip = also.becomes from known, known as also
     where known.raw = logins.ip and also.raw = logins.last_ip
"""
UPDATE = "update logins set ip = known.becomes from known where known.raw = logins.ip"
LINK = """
    select extract(epoch from max(finished) - min(finished - make_interval(secs => seconds)))::float, max(longest), sum(written)
      from backfill.batches where phase in ('link', 'shared-link') and run_id = (select max(id) from backfill.runs)
"""


def one_update(url: str, *, both: bool) -> float:
    """Seconds of the UPDATE."""
    began = time.monotonic()
    query(url, UPDATE_BOTH if both else UPDATE)
    return time.monotonic() - began


class Ours(NamedTuple):
    """What our command took; seconds, but for the last two."""

    link: float
    longest: float
    whole: float
    written: int
    client_mb: float  # 0 where nobody looked


def ours(url: str, kind: str, home: Path, *, watch: bool, both: bool) -> Ours:
    """Our whole command; *watch*: its memory, twice a second."""
    columns = ("ip", "last_ip") if both else ("ip",)
    with tempfile.TemporaryDirectory() as folder:
        jobs = [{"table": "logins", "raw": raw, "becomes": kind, "unreadable": "refuse"} for raw in columns]
        plan = plan_file(Path(folder), *jobs)
        who = operator(url, home, plan)
        words = confirmed(who.types("run", "--quiet", "--no-sample", expect=2))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
        began = time.monotonic()
        command = [sys.executable, "-m", "backfill", *words]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                command, env=clean | who.variables, stdout=said, stderr=subprocess.STDOUT, text=True
            )
            most = wait(process, watch=watch)
            if process.returncode:
                said.seek(0)
                raise click.ClickException(said.read())
        whole = time.monotonic() - began
    ((seconds, longest, written),) = query(url, LINK)
    return Ours(float(seconds), float(longest), whole, int(written), most / MB)


def pganonymize(url: str, program: Path) -> float:
    """Seconds of the whole program: the same column, md5 instead of a salted hash, in one transaction."""
    at = make_url(url)
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.yml"
        rules.write_text(
            "tables:\n - logins:\n    fields:\n     - ip:\n        provider:\n          name: md5\n"
        )
        words = ["--schema", rules, "--dbname", at.database, "--user", at.username, "--password", ""]
        words += ["--host", at.query["host"], "--port", at.query["port"]]
        began = time.monotonic()
        subprocess.run([program, *map(str, words)], check=True, capture_output=True)
        return time.monotonic() - began


def size_against_a_rewrite(url: str) -> float:
    """Of table and indexes as they are, against what VACUUM FULL makes of them."""
    sized = "select pg_total_relation_size('logins')::float"
    before = query(url, sized)[0][0]
    query(url, "vacuum full logins")
    return float(before / query(url, sized)[0][0])


@click.command()
@click.option("--rows", default=2_000_000, show_default=True)
@click.option("--addresses", default=200_000, show_default=True)
@click.option("--rounds", default=1, show_default=True)
@click.option("--kind", "kinds", type=click.Choice(list(BECOMES)), multiple=True, help="[default: all]")
@click.option("--both", is_flag=True, help="Two columns, a job each, against one UPDATE of both.")
@click.option("--index", is_flag=True, help="With an index on the raw column: no row is heap-only then.")
@click.option("--pganonymize", "other", type=click.Path(path_type=Path, exists=True), help="Its program.")
@click.option(
    "--memory", is_flag=True, help="Of the client, too: looked at twice a second, which takes time."
)
def main(
    rows: int,
    addresses: int,
    rounds: int,
    kinds: tuple[str, ...],
    both: bool,
    index: bool,
    other: Path | None,
    memory: bool,
) -> None:
    """Measure, and print one line of JSON a kind and round."""
    with temporary_home() as home:
        url = EmbeddedServer(home).ensure()
        for statement in SEASON:
            query(url, statement)
        for number in range(rounds):
            for kind in kinds or BECOMES:
                with table(url, rows, addresses, index=index, both=both):
                    query(url, MAP.format(becomes=BECOMES[kind]))
                    update = one_update(url, both=both)
                    update_size = size_against_a_rewrite(url)
                with table(url, rows, addresses, index=index, both=both):
                    query(url, "analyze logins; checkpoint")
                    took = ours(url, kind, home, watch=memory, both=both)
                    size = size_against_a_rewrite(url)
                told = {
                    "kind": kind,
                    "round": number + 1,
                    "rows": took.written,
                    "columns": 2 if both else 1,
                    "index": index,
                    "update": round(update, 2),
                    "link phase": round(took.link, 2),
                    "times as fast": round(update / took.link, 2),
                    "whole command": round(took.whole, 2),
                    "longest transaction": round(took.longest, 2),
                    "size": round(size, 2),
                    "size after the update": round(update_size, 2),
                }
                if memory:
                    told["client MB"] = round(took.client_mb)
                if kind == "hash" and other is not None:
                    with table(url, rows, addresses, index=index, both=both):
                        query(url, "analyze logins; checkpoint")
                        theirs = pganonymize(url, other)
                    told |= {"pganonymize": round(theirs, 2), "against it": round(theirs / took.whole, 2)}
                click.echo(json.dumps(told))


@contextmanager
def table(url: str, rows: int, addresses: int, *, index: bool, both: bool) -> Iterator[None]:
    """The table, filled; it and the ledger are gone afterwards."""
    for statement in (FILL, SECOND) if both else (FILL,):
        query(url, statement.replace("%%", "%").format(rows=rows, addresses=addresses))
    if both:
        query(url, "vacuum full logins")
    if index:
        query(url, "create index on logins (ip)")
    query(url, "vacuum logins")
    yield
    query(url, "drop table if exists logins, known; drop schema if exists backfill cascade")


if __name__ == "__main__":
    main()
