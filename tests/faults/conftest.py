"""Fixtures: a server of our own to do violence to, and a demo database on it that is cloned for each test."""

from collections.abc import Callable, Iterator

import pytest

from tests.databases import Databases
from tests.faults.cluster import Cluster
from tests.faults.stage import Stage, fill

EVENTS = 6_000
SMALL = ("--batch-blocks", "16")  # many batches, so that there is a middle to be disturbed in


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


@pytest.fixture
def stage(stages: Databases, primary: Cluster) -> Iterator[Stage]:
    """A fresh demo database, its operator, and a server that is up again afterwards."""
    if primary.process is None or primary.process.poll() is not None:
        primary.start()
    primary.wait()
    stages.template("demo", lambda url: fill(url, EVENTS))
    made = Stage(stages.clone("demo"))
    try:
        yield made
    finally:
        made.leave()
        if primary.process is None or primary.process.poll() is not None:
            primary.start()
        primary.wait()
        stages.drop(made.url)


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
