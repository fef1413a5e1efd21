"""The server's clock is really stepped, an hour forward and an hour back, while a run is at work."""

import importlib.util
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.databases import Databases, connect
from tests.faults.cluster import Cluster
from tests.faults.conftest import EVENTS, SMALL
from tests.faults.stage import Stage, fill, in_background, worker_of_a_batch

STEPS = (
    "+1h",
    "+2h",
    "+3h",
    "+4h",
    "+0",
    "-1h",
)  # forward again and again: a lease of a moment ago looks expired


def faketime() -> Path:
    """The library of the package libfaketime; the test is skipped, by name, where it has none for us."""
    found = importlib.util.find_spec("libfaketime")
    for folder in (found.submodule_search_locations or []) if found else []:
        for library in Path(folder).rglob("libfaketime.so.1"):
            return library
    pytest.skip("the package libfaketime has no library for this machine")


class SteppedClock:
    """A server whose wall clock the test sets; its monotonic clock goes on, as on a real machine."""

    def __init__(self) -> None:
        library = faketime()
        self.cluster = Cluster("clock")
        self.offset = self.cluster.folder / "offset"
        self.set("+0")
        preload = self.cluster.folder / library.name  # where the server's user can read it
        shutil.copy(library, preload)
        self.environment = {
            "LD_PRELOAD": str(preload),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # its older name
        }

    def set(self, offset: str) -> None:
        """Step to the true time and *offset*."""
        draft = self.offset.with_suffix(".new")
        draft.write_text(offset + "\n")
        draft.chmod(0o644)
        draft.rename(self.offset)  # whole at any moment


@pytest.fixture
def clock() -> Iterator[SteppedClock]:
    made = SteppedClock()
    try:
        made.cluster.init().start(environment=made.environment)
        yield made
    finally:
        made.cluster.remove()


@pytest.fixture
def stage_on_clock(clock) -> tuple[SteppedClock, Stage]:
    """That server, and the demo on it."""
    databases = Databases(clock.cluster.url())
    databases.template("demo", lambda url: fill(url, EVENTS))
    return clock, Stage(databases.clone("demo"))


def test_a_clock_that_steps_an_hour_forward_and_back_takes_no_lease_from_a_living_worker(
    stage_on_clock, same_as_undisturbed
):
    clock, stage = stage_on_clock
    seen: list[timedelta] = []

    def step(done: threading.Event) -> None:
        with closing(connect(stage.url)) as other, other.cursor() as cursor:

            def now():
                cursor.execute("select clock_timestamp()")
                return cursor.fetchone()[0]

            number = 0
            while not done.is_set():
                before = now()
                clock.set(STEPS[number % len(STEPS)])
                seen.append(now() - before)
                number += 1
                done.wait(0.4)
        clock.set("+0")

    command = stage.start("run", "--quiet", *SMALL, "--nice", "40")
    stage.until_linking()
    with in_background(step):
        assert command.end() == 0, command.said
    hour = timedelta(minutes=59)
    assert sum(jump > hour for jump in seen) >= 3  # it was stepped, and the server saw it
    assert sum(jump < -hour for jump in seen) >= 3
    assert "its lease ran out" not in command.said
    assert stage.value("select retries from backfill.runs") == {}
    assert stage.value("select max(attempts) from backfill.batches") == 1  # nobody's work was done twice
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_worker_that_hangs_before_a_step_backward_is_not_waited_for_an_hour(
    stage_on_clock, same_as_undisturbed
):
    """By the server its lease has an hour and a minute to go; the driver has a clock of its own."""
    clock, stage = stage_on_clock
    command = stage.start("run", "--quiet", *SMALL, "--nice", "30", "--workers", "2")
    _, worker = worker_of_a_batch(stage)
    clock.set("-1h")
    os.kill(worker, signal.SIGSTOP)
    assert command.end(300) == 0, command.said
    assert "its lease ran out" in command.said
    same_as_undisturbed(stage)
