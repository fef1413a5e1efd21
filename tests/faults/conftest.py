"""Fixtures: a server of our own to do violence to, and a demo database on it that is cloned for each test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.databases import Databases
from tests.faults.cluster import Cluster
from tests.faults.stage import Stage, fill

EVENTS = 6_000
# Many batches, so that there is a middle to be disturbed in; no sample, which a disturbance is not to meet.
SMALL = ("--batch-blocks", "16", "--no-sample")


@pytest.fixture(scope="session")
def primary() -> Iterator[Cluster]:
    """A server that tests may kill, as long as they start it again."""
    cluster = Cluster("primary")
    try:
        yield cluster.init().start()
    finally:
        cluster.remove()


@pytest.fixture(scope="session")
def stages(primary: Cluster) -> Databases:
    """Templates and clones on that server."""
    return Databases(primary.url())


@contextmanager
def set_up(stages: Databases, primary: Cluster, state: str) -> Iterator[Stage]:
    """A database in that state, its operator, and a server that is up before and afterwards."""
    bring_up(primary)
    stages.template("demo", lambda url: fill(url, EVENTS))
    if state == "run":
        stages.template("run", lambda url: Stage(url).run(*SMALL) and None, "demo")
    made = Stage(stages.clone(state))
    try:
        yield made
    finally:
        made.leave()
        bring_up(primary)
        stages.drop(made.url)


def bring_up(primary: Cluster) -> None:
    """Start it, unless it runs."""
    if primary.process is None or primary.process.poll() is not None:
        primary.start()
    primary.wait()


@pytest.fixture
def stage(stages: Databases, primary: Cluster) -> Iterator[Stage]:
    """A fresh demo database."""
    with set_up(stages, primary, "demo") as made:
        yield made


@pytest.fixture
def after_a_run(stages: Databases, primary: Cluster) -> Iterator[Stage]:
    """A database whose run has ended."""
    with set_up(stages, primary, "run") as made:
        yield made


@pytest.fixture(scope="session")
def undisturbed(stages: Databases) -> dict[str, object]:
    """The final state of a run that nobody disturbed."""
    stages.template("demo", lambda url: fill(url, EVENTS))
    url = stages.clone("demo")
    stage = Stage(url)
    stage.run()
    found = stage.final()
    stages.drop(url)
    return found


@pytest.fixture
def same_as_undisturbed(undisturbed: dict[str, object]) -> Callable[[Stage], None]:
    """Assert that a disturbed run has come to the same end, to the row."""

    def compare(stage: Stage) -> None:
        assert stage.value("select status from backfill.runs order by id desc limit 1") == "succeeded"
        assert stage.final() == undisturbed
        assert stage.value("select to_regclass('backfill.address_map') is null")

    return compare
