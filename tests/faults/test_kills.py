"""Real processes, really killed: whatever happens, the same command comes to the same end."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from backfill.embedded import EmbeddedServer
from tests.conftest import temporary_home
from tests.databases import Databases, connect, query
from tests.demo_template import canonical_dump, environment, fill_demo
from tests.operator import Operator, ended

EVENTS = 12_000
RUN = ("run", "--quiet", "--workers", "2", "--batch-blocks", "8")
PATIENCE = 120.0


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Compared part by part, since a difference between thousands of rows takes minutes to print."""
    return all(found[part] == expected[part] for part in expected) and found.keys() == expected.keys()


@pytest.fixture
def large_demo(databases: Databases, clone: Callable[[str], str], home: Path) -> Operator:
    """A demo that takes a run a few seconds in small batches."""
    url = clone(databases.template("large demo", lambda url: fill_demo(url, EVENTS)))
    return Operator(url, environment(url, home))


@pytest.fixture
def expected(databases: Databases, clone: Callable[[str], str], home: Path) -> dict[str, Any]:
    """What an undisturbed run makes of it."""
    databases.template("large demo", lambda url: fill_demo(url, EVENTS))

    def run(url: str) -> None:
        Operator(url, environment(url, home)).types("run", "--quiet")

    return canonical_dump(clone(databases.template("large run", run, "large demo")))


def reaches(operator: Operator, process: "subprocess.Popen[str]", phase: str, share: float) -> bool:
    """Wait until *share* of the batches of a phase are done; False when the process ended before."""
    progress = """
        select exists (select from backfill.runs where phase like %(phase)s and status <> 'succeeded')
           and coalesce((select avg((status = 'succeeded')::int) >= %(share)s from backfill.batches
                          where phase like %(phase)s), %(share)s = 0)
    """
    deadline = time.monotonic() + PATIENCE
    with closing(connect(operator.url)) as connection, connection.cursor() as cursor:
        while process.poll() is None:
            assert time.monotonic() < deadline, "it never came to that"
            cursor.execute("select to_regclass('backfill.batches') is not null")
            if cursor.fetchone()[0]:
                cursor.execute(progress, {"phase": phase, "share": share})
                if cursor.fetchone()[0]:
                    return True
            time.sleep(0.005)
    return False


def test_a_run_killed_in_every_phase_ends_as_an_undisturbed_one(
    large_demo: Operator, expected: dict[str, Any]
) -> None:
    chance = random.Random(2)
    landed = []
    for phase, share in [("resolve", 0), ("resolve", 0.5), ("link", 0), ("link", 0.3), ("link", 0.7), ("fill", 0), ("sweep%", 0)]:  # fmt: skip
        with ended(large_demo.starts(*RUN)) as process:
            if reaches(large_demo, process, phase, share):
                time.sleep(chance.uniform(0, 0.05))
            process.kill()
            process.wait()
        landed += query(large_demo.url, "select phase from backfill.runs where status = 'running'")
    assert {phase for (phase,) in landed} >= {"resolve", "link"}
    assert len(landed) >= 5
    last = large_demo.really_types(*RUN)
    assert last.code == 0, last
    assert same(canonical_dump(large_demo.url), expected)
    runs = query(large_demo.url, "select status, attempts from backfill.runs order by id limit 1")
    assert runs[0][0] == "succeeded"
    assert runs[0][1] >= 5
    counts = query(
        large_demo.url,
        "select rows, linked + already_linked + no_address + quarantined + left_to_live, left_to_live"
        " from backfill.run_tables where linked is not null",
    )
    assert all(rows == added and not left for rows, added, left in counts)


def test_a_killed_worker_is_replaced(large_demo: Operator, expected: dict[str, Any]) -> None:
    with ended(large_demo.starts(*RUN)) as process:
        assert reaches(large_demo, process, "link", 0.1)
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if child.parent() and child.parent().pid != process.pid
        ]
        assert workers
        workers[0].kill()
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "A worker was lost" in out
    assert same(canonical_dump(large_demo.url), expected)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.thorough)])
def test_a_signal_ends_a_run_at_a_checkpoint(
    large_demo: Operator, expected: dict[str, Any], number: signal.Signals
) -> None:
    with ended(large_demo.starts(*RUN)) as process:
        assert reaches(large_demo, process, "link", 0.1)
        os.killpg(process.pid, number)  # as a terminal does: to everybody
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3, err
    assert f"{number.name}: stopping at the next checkpoint; once more ends at once." in out
    reason = f"{number.name} was received"
    stopped = re.fullmatch(
        rf"backfill: Run 1 stopped at a checkpoint of phase link, at (\d+) %: {reason}. `backfill run` goes on from there.\n",
        err,
    )
    assert stopped, err
    assert 0 < int(stopped[1]) < 100
    assert query(large_demo.url, "select status from backfill.runs") == [("paused",)]
    assert query(
        large_demo.url, "select count(*) from backfill.batches where lease is not null and status = 'running'"
    ) == [(0,)]
    last = large_demo.really_types(*RUN)
    assert last.code == 0, last
    assert "Resuming run 1" in last.out
    assert same(canonical_dump(large_demo.url), expected)


def test_the_second_of_two_runs_says_who_drives_the_first(
    large_demo: Operator, expected: dict[str, Any]
) -> None:
    with ended(large_demo.starts(*RUN)) as first:
        assert reaches(large_demo, first, "link", 0)
        first.send_signal(signal.SIGSTOP)
        for words in (RUN, ("quarantine", "settle", "user_events", "--as", "discard", "--count", "1")):
            second = large_demo.really_types(*words)
            assert second.code == 2
            assert "backfill: Another command is driving run 1 (" in second.err
            assert f":{first.pid}; session " in second.err
            assert second.err.count("\n") == 1
        first.send_signal(signal.SIGCONT)
        _, err = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, err
    assert same(canonical_dump(large_demo.url), expected)


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server that a test may kill."""
    with temporary_home() as folder:
        yield EmbeddedServer(folder)


def test_a_server_killed_under_a_run_costs_nothing_but_time(own_server: EmbeddedServer, home: Path) -> None:
    databases = Databases(own_server.ensure())
    databases.template("demo", fill_demo)
    whole, half = databases.clone("demo"), databases.clone("demo")
    undisturbed, disturbed = (Operator(url, environment(url, home)) for url in (whole, half))
    undisturbed.types("run", "--quiet")
    expected = canonical_dump(whole)
    with ended(disturbed.starts("run", "--quiet", "--workers", "2", "--batch-blocks", "2")) as process:
        for phase, share in [("resolve", 0.4), ("link", 0.2)]:
            assert reaches(disturbed, process, phase, share)
            pid = own_server.status().pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            own_server.ensure()
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, (out, err)
    assert "Traceback" not in err
    assert "Connected again" in out
    assert same(canonical_dump(half), expected)
