"""A shadow copy under violence: its server is killed, its driver again and again; the rows are those of a run in place."""

import json
import random
import signal
import time

import pytest

from backfill.plan import EVENT_TABLES
from tests.databases import Databases
from tests.faults.conftest import SMALL
from tests.faults.stage import Stage, kill_group

SHADOW = ("run", "--strategy", "shadow", "--hold-cutover", "--quiet", "--no-sample", *SMALL)
COPYING = "exists (select from backfill.batches where phase = 'copy' and written > 0)"


def settle(stage: Stage) -> None:
    for name in (*EVENT_TABLES, "ip_addresses"):
        waiting = len(json.loads(stage.call("quarantine", "list", name, "--format", "json")))
        if waiting and name == "ip_addresses":
            stage.call("addresses", "merge", "--count", str(waiting))
        elif waiting:
            stage.call("quarantine", "settle", name, "--as", "sentinel", "--count", str(waiting))


@pytest.fixture(scope="module")
def settled(stages: Databases, undisturbed: dict[str, object]) -> dict[str, object]:
    """Events and addresses of a settled run in place; *undisturbed* has made the template."""
    url = stages.clone("demo")
    stage = Stage(url)
    stage.run()
    settle(stage)
    found = stage.final(closing=False)
    stages.drop(url)
    return found


def ends_like(stage: Stage, settled: dict[str, object]) -> None:
    """Settle, swap, and look at every row."""
    settle(stage)
    stage.call("cutover", *EVENT_TABLES)
    found = stage.final(closing=False)
    for what in ("events", "events digest", "addresses", "addresses digest"):
        assert found[what] == settled[what], what
    columns = "select count(*) from pg_attribute where attrelid = any (%s::regclass[]) and attname = 'ip_address_string'"
    assert stage.query(columns, list(EVENT_TABLES)) == [(0,)]


def test_a_server_that_is_killed_amid_the_copy_is_waited_for_and_its_map_made_again(stage, primary, settled):
    command = stage.start(*SHADOW, "--nice", "3")
    stage.until(COPYING)
    primary.end(signal.SIGKILL)
    primary.start()
    assert command.end() == 0, command.said
    assert "The address map was emptied" in command.said
    ends_like(stage, settled)


@pytest.mark.slow
def test_a_driver_that_is_killed_at_random_moments_ends_like_one_that_was_left_alone(stage, settled):
    chance = random.Random(5)
    for _ in range(8):
        command = stage.start(*SHADOW)
        time.sleep(chance.uniform(1.0, 6.0))
        kill_group(command)
    stage.call(*SHADOW)
    ends_like(stage, settled)
