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

SHADOW = ("run", "--strategy", "shadow", "--postpone-cutover", "--quiet", *SMALL)
COPYING = "exists (select from backfill.batches where phase = 'copy' and written > 0)"


def settle(stage: Stage) -> None:
    for name in (*EVENT_TABLES, "ip_addresses"):
        waiting = len(json.loads(stage.types("quarantine", "list", name, "--format", "json"))["rows"])
        if waiting and name == "ip_addresses":
            stage.types("addresses", "merge", "--count", str(waiting))
        elif waiting:
            stage.types("quarantine", "settle", name, "--as", "sentinel", "--count", str(waiting))


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
    stage.types("cutover", *EVENT_TABLES)
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


def test_a_driver_that_comes_back_amid_a_later_copy_leaves_the_earlier_ones_alone(stage, settled):
    command = stage.start(*SHADOW, "--nice", "10")
    stage.until(
        "exists (select from backfill.batches where phase = 'copy' and job <> 'public.user_events.ip_address_string'"
        " and status in ('pending', 'running'))"
    )
    kill_group(command)
    stage.types(*SHADOW)
    ends_like(stage, settled)


@pytest.mark.thorough
def test_a_driver_that_is_killed_at_random_moments_ends_like_one_that_was_left_alone(stage, settled):
    chance, phases = random.Random(5), set()
    for phase in ("resolve", "copy", "index", "compare", "copy", "compare", "index", "copy"):
        command = stage.start(*SHADOW, "--nice", "2")
        there = f"select 1 from backfill.runs where phase = '{phase}' and status = 'running'"
        stage.until_true(
            lambda run=command, there=there: (
                run.process.poll() is not None or (stage.sessions() and stage.query(there))
            )
        )
        time.sleep(chance.uniform(0, 0.2))
        kill_group(command)
        phases |= set(stage.query("select phase from backfill.runs where status = 'running'"))
    assert len(phases) >= 3, phases
    assert stage.value("select attempts from backfill.runs") >= 6
    stage.types(*SHADOW)
    ends_like(stage, settled)


def test_the_same_command_after_its_end_says_what_is_left_to_do(stage, settled):
    stage.types(*SHADOW)
    again = stage.types(*SHADOW)
    assert (
        "The copy of user_events is ready and stays in sync. Next: `backfill cutover user_events`." in again
    )
    assert stage.query("select status from backfill.runs") == [("succeeded",)]
    ends_like(stage, settled)
