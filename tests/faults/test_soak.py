"""The soak: a run under a live writer and a killer; ledger and data agree to the row at the end."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from tests.faults.live import Live
from tests.faults.stage import Stage, fill, in_background, kill_group

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
EVENTS = int(os.environ.get("SOAK_EVENTS", "60000"))


@pytest.mark.slow
def test_soak(stages, primary):
    if primary.process is None or primary.process.poll() is not None:
        primary.start()
    stages.template("soak", lambda url: fill(url, EVENTS))
    url = stages.clone("soak")
    stage = Stage(url)
    live, chance = Live(stage, rate=0.02), random.Random(5)
    kills = {"driver": 0, "worker": 0, "session": 0, "server": 0}
    runs_done = 0
    end = time.monotonic() + SECONDS
    with in_background(live.work()):
        command = None
        while time.monotonic() < end:
            if command is None or command.process.poll() is not None:
                runs_done += command is not None and command.end() == 0
                command = stage.start("run", "--quiet", "--batch-blocks", "8", "--nice", "5")
            time.sleep(chance.uniform(1, 5))
            kind = chance.choices(list(kills), weights=[3, 4, 4, 1])[0]
            kills[kind] += _kill(kind, stage, primary, command, chance)
        kill_group(command)
    said = stage.run("--batch-blocks", "64")
    if stage.value("select sum(left_to_live) from backfill.run_tables") > 0:
        # It came back in its last sweep: what was written before that is the live application's, and the next run's.
        said += stage.run("--batch-blocks", "64")
    print(f"\nsoak: {SECONDS:.0f} s, {EVENTS} events, kills {kills}, runs done meanwhile {runs_done}, live events "
          f"{len(live.linked) + len(live.unlinked)}, deadlocks met by the live writer {live.deadlocks}")  # fmt: skip
    print(said)
    assert sum(kills.values()) > SECONDS / 20
    _agrees(stage, live)
    stages.drop(url)


def _kill(kind, stage, primary, command, chance) -> bool:
    with suppress(Exception):  # what was to be killed is gone by itself
        if kind == "driver":
            command.kill()
        elif kind == "worker":
            os.kill(chance.choice(command.children()), signal.SIGKILL)
        elif kind == "session":
            stage.query("select pg_terminate_backend(%s)", chance.choice(stage.sessions()))
        else:
            primary.end(chance.choice([signal.SIGKILL, signal.SIGQUIT]))
            primary.start()
        return True
    if primary.process is None or primary.process.poll() is not None:
        primary.start()
    return False


def _agrees(stage, live):
    """To the row: links, hashes, geo, quarantine, and the closing count."""
    assert stage.value("select status from backfill.runs order by id desc limit 1") == "succeeded"
    for table, rows, *parts in stage.query(
        """select split_part(job, '.', 2), rows, linked, already_linked, no_address, quarantined, left_to_live
             from backfill.run_tables where linked is not null and run_id = (select max(id) from backfill.runs)"""
    ):
        assert sum(parts) == rows
        assert stage.value(f"select count(*) from {table}") == rows
        assert stage.value(f"select count(*) from {table} where ip_address_string is null") == parts[2]
        linked = (
            f"select count(*) from {table} where ip_address_string is not null and ip_address_id is not null"
        )
        assert stage.value(linked) == parts[0] + parts[1]
        unlinked = stage.value(
            f"select count(*) from {table} where ip_address_string is not null and ip_address_id is null"
        )
        waiting = stage.value(
            f"select count(*) from backfill.quarantine where job = 'public.{table}.ip_address_string' and decision_id is null"
        )
        assert unlinked == waiting == parts[3]
        assert parts[4] == 0
    links = dict(stage.query("select id::text, ip_address_id::text from user_events where tag = 'live'"))
    assert {event: links[event] for event in live.linked} == live.linked
    assert set(live.unlinked) <= set(links)
    assert all(links.values())
    # Every link and every hash, by the road that verify takes.
    said = stage.start("verify", "--format", "json")
    said.end()
    assert '"wrong": 0' in said.said
    for wrong in ("hash_wrong", "geo_missing"):
        assert f'"{wrong}"' not in said.said or f'"{wrong}": 0' in said.said, said.said
