"""Who watches: hooks, logs, metrics; none of them ever holds an address or the salt."""

import json
import re
import socket
import stat
import time
import urllib.request
from pathlib import Path

import pytest

from backfill.engine.observers.metrics import METRICS
from tests.faults.conftest import SMALL
from tests.faults.stage import SALT

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"\b(?!127\.0\.0\.1\b)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b")


@pytest.fixture
def hook(tmp_path):
    script, told = tmp_path / "hook", tmp_path / "told"
    script.write_text(
        f'#!/bin/sh\necho "$1" "${{BACKFILL_IP_SALT:-no salt}}" "${{BACKFILL_DATABASE_URL:-no url}}" >> {told}\n'
        f"cat > {told}.$1\nexit 7\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script, told


def test_hook_log_and_metrics_of_a_run(stage, hook, tmp_path):
    script, told = hook
    file = tmp_path / "backfill.prom"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = stage.start(
        "run", "--quiet", *SMALL, "--nice", "10", "--log-format", "json", "--metrics-port", str(port),
        hook=str(script), metrics_file=str(file),
    )  # fmt: skip
    stage.until_linking()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        scraped = answer.read().decode()
    stage.types("pause")
    stage.until("(select status = 'paused' from backfill.runs)")
    stage.until_true(lambda: "paused" in told.read_text(), "the hook was told of the pause")
    stage.types("resume")
    assert command.end() == 0, command.said

    assert told.read_text().splitlines() == [
        "started no salt no url",
        "paused no salt no url",
        "finished no salt no url",
    ]
    paused = json.loads(Path(f"{told}.paused").read_text())
    assert paused["event"] == "paused"
    assert paused["rows_left"] > 0
    assert json.loads(Path(f"{told}.finished").read_text())["status"] == "succeeded"
    assert "The hook ended with exit code 7 at started." in command.said

    events = [json.loads(line) for line in command.lines if line.startswith("{")]
    assert [event["event"] for event in events if event["event"] != "phase"] == [
        "started",
        "paused",
        "finished",
    ]
    assert {"resolve", "link", "fill", "close"} <= {event.get("phase") for event in events}
    assert all(event["level"] == "info" and event["timestamp"] for event in events)

    names = set(re.findall(r"^(backfill_\w+)", scraped, re.MULTILINE))
    assert names <= set(METRICS)
    assert "backfill_up 1.0" in scraped
    assert 'backfill_run_status{status="running"} 1.0' in scraped
    assert 'backfill_run_status{status="succeeded"} 1.0' in file.read_text()
    everything = command.said + scraped + "".join(path.read_text() for path in tmp_path.iterdir())
    assert SALT not in everything
    assert not ADDRESS.search(everything)


def test_the_documented_table_of_metrics_is_the_one_in_the_code():
    text = (ROOT / "docs" / "operations.md").read_text()
    assert dict(re.findall(r"^\| `(backfill_\w+)` \| (.+) \|$", text, re.MULTILINE)) == METRICS


def test_a_failed_run_is_told_as_well(stage, hook):
    script, told = hook
    stage.query(
        """create function no() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
           create trigger no before update on team_events for each row execute function no()"""
    )
    accepted = ("--accept", "before-trigger:public.team_events.no")
    stage.call("run", "--quiet", *SMALL, *accepted, expect=1, hook=str(script))
    time.sleep(0.1)
    assert [line.split()[0] for line in told.read_text().splitlines()] == ["started", "failed"]
    assert json.loads(Path(f"{told}.failed").read_text())["failed"]
