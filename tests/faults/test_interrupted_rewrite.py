"""A rewrite that is ended half-way, by a terminated session and by a killed server: nothing is lost, and the next one ends it."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.databases import query
from tests.demo_template import environment, fill_demo
from tests.faults.cluster import Cluster
from tests.operator import Operator, ended

ROWS = 250_000
HELD = "(select host(ip_address) from ip_addresses where family(ip_address) = 4 and masklen(ip_address) = 32 and not is_banned and host(ip_address) not like '192.0.2.%' order by id limit 1)"
PROGRESS = "select pid from pg_stat_progress_cluster where heap_tuples_written > 1000"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server with a demo that was run, and a table of 100 MB that has lost a column of addresses."""
    made = Cluster("rewrite").init()
    try:
        made.start(autovacuum="off", max_wal_size="2GB")
        query(made.url(), "create database demo")
        fill_demo(made.url("demo"), 300)
        query(
            made.url("demo"),
            f"""create table public.big as select n as id, repeat(md5(n::text), 8) as ballast,
                       {HELD} as host from generate_series(1, {ROWS}) as n""",
        )
        query(made.url("demo"), "alter table public.big drop column host")
        yield made
    finally:
        made.remove()


@pytest.fixture
def operator(cluster: Cluster, home: Path) -> Operator:
    """Somebody who has run it all once, so that there is a ledger."""
    found = Operator(cluster.url("demo"), environment(cluster.url("demo"), home))
    found.types("run", "--quiet")
    return found


def terminate(cluster: Cluster) -> None:
    query(cluster.url("demo"), f"select pg_terminate_backend(pid) from ({PROGRESS}) as rewriting")


def kill_the_server(cluster: Cluster) -> None:
    cluster.end(signal.SIGKILL)
    cluster.start(autovacuum="off", max_wal_size="2GB")


@pytest.mark.parametrize("interrupt", [terminate, kill_the_server])
def test_an_interrupted_rewrite_leaves_the_table_as_it_was_and_the_next_one_ends_it(
    cluster: Cluster, operator: Operator, interrupt: Callable[[Cluster], None]
) -> None:
    file = "select pg_relation_filenode('big')"
    before = query(operator.url, file)
    with ended(operator.starts("erase", "big", "--with", "vacuum")) as process:
        deadline = time.monotonic() + 120
        while not query(operator.url, PROGRESS):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
        interrupt(cluster)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert re.match(r"(  .*\n)*backfill: [^\n]+\n$", said), said
    assert query(operator.url, file) == before
    assert query(operator.url, "select count(*) from public.big") == [(ROWS,)]
    steps = query(operator.url, "select status from backfill.erasures where target = 'big' order by id")
    assert steps[-1][0] in ("running", "failed")
    pages = json.loads(operator.types("prove", "--format", "json", expect=1).out)["findings"]
    found = {line["where"] for line in pages if line["state"] == "found"}
    assert "table big" in found

    operator.types("erase", "big", "--with", "vacuum", expect=None)
    assert query(operator.url, file) != before
    assert query(operator.url, "select count(*) from public.big") == [(ROWS,)]
    steps = query(operator.url, "select status from backfill.erasures where target = 'big' order by id")
    assert steps[-1] == ("done",)
    pages = json.loads(operator.types("prove", "--format", "json", expect=1).out)["findings"]
    found = {line["where"] for line in pages if line["state"] == "found"}
    # A server that was killed leaves the file that it was writing behind: it never had the column.
    assert not found & {"table big", "files of no relation"}, found
    # For the next one.
    query(operator.url, "alter table public.big add column host text")
    query(operator.url, f"update public.big set host = {HELD}")
    query(operator.url, "alter table public.big drop column host")
