"""What reaches an operator when something is odd: one line and an exit code, never a traceback."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.databases import query
from tests.faults.stage import stretched
from tests.operator import BIN, ROOT, Operator

# Every command that shows something; each must come to its own end whatever standard output is.
SHOWING = (
    ["verify"],
    ["--help"],
    ["plan", "--no-sample"],
    ["calibrate"],
    ["scan", "--table", "team_events"],
    ["status"],
    ["status", "--format", "json"],
    ["gates"],
    ["gates", "--checklist"],
    ["quarantine", "list"],
    ["report"],
    ["report", "--format", "html"],
    ["disclose", "--help"],
    ["server", "status"],
    ["run", "--no-sample"],
)


def in_a_shell(operator: Operator, line: str) -> tuple[int, str]:
    """Exit code and standard error of ``backfill LINE``, with its redirections."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
    done = subprocess.run(
        ["bash", "-c", line],
        env=variables | operator.variables | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    return done.returncode, done.stderr


# A help, a table, a document and a command that writes.
QUICK = ("--help", "status", "report --format html", "run --no-sample")


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=() if line in QUICK else pytest.mark.slow) for line in map(" ".join, SHOWING)],
)
def test_a_full_disk_under_standard_output_is_said_at_the_end_and_a_reader_who_left_is_not(
    finished_run, line
):
    finished_run.types("verify", expect=1)  # so that there is something to report
    plain, _ = in_a_shell(finished_run, f"backfill {line}")
    code, err = in_a_shell(finished_run, f"backfill {line} > /dev/full")
    assert code == (plain or 74)
    assert "standard output could not be written: No space left on device" in err
    left, left_err = in_a_shell(finished_run, f"backfill {line} | true; exit ${{PIPESTATUS[0]}}")
    assert left == plain
    assert "Traceback" not in err + left_err
    assert "BrokenPipe" not in err + left_err


def test_closed_streams_are_nobodys_business(finished_run):
    for line in ("status", "status --format json", "migrate --sql 0002_journals"):
        assert in_a_shell(finished_run, f"backfill {line} >&- 2>&- <&-")[0] == 0
    assert in_a_shell(finished_run, "backfill nonsense 2> /dev/full")[0] == 2


def test_a_watch_ends_quietly_by_ctrl_c_and_when_nobody_reads(finished_run):
    query(finished_run.url, "update backfill.runs set status = 'paused'")
    process = finished_run.starts("status", "--watch", "--every", "0.1")
    assert process.stdout is not None
    while not process.stdout.readline().startswith("Run "):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=stretched(10))
    assert (process.returncode, err) == (0, "")
    assert in_a_shell(
        finished_run,
        f"timeout {stretched(20):.0f} backfill status --watch --every 0.1 | head -1; exit ${{PIPESTATUS[0]}}",
    ) == (0, "")


def test_places_that_cannot_be_written_are_refused_before_anything_is_asked(tmp_path):
    nobody = Operator("", {"BACKFILL_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})
    for words, line in (
        (("report", "--output", tmp_path / "no" / "a.html"), "there is no folder"),
        (("report", "--output", tmp_path), "it is a folder"),
        (("report", "--output", tmp_path / "a.pdf"), "known are .txt, .json, .md, .html, .htm"),
        (("disclose", "x", "--output", tmp_path / "a.csv"), "known are .json"),
        (("disclose", "x", "--output", tmp_path / "no" / "a.json"), "there is no folder"),
        (("disclose", "x", "--show-data", tmp_path / "no" / "a.json"), "there is no folder"),
        (("disclose", "x", "--show-data", ROOT / "README.md"), "it is there already"),
    ):
        assert line in nobody.types(*words, expect=2).err


def test_observers_are_checked_before_a_run_and_never_change_its_result(fresh_demo, tmp_path):
    (tmp_path / "hook").write_text("#!/bin/sh\n")
    for variables, line in (
        ({"hook": str(tmp_path / "nowhere")}, "BACKFILL_HOOK, .*: there is no such file"),
        ({"hook": str(tmp_path / "hook")}, "it may not be executed: chmod \\+x"),
        ({"metrics_file": str(tmp_path)}, "BACKFILL_METRICS_FILE .*: it is a folder"),
        ({"metrics_file": str(tmp_path / "no" / "x")}, "there is no folder"),
    ):
        assert re.search(line, fresh_demo.having(**variables).types("run", expect=2).err)
    assert query(fresh_demo.url, "select to_regnamespace('backfill')") == [(None,)]
    said = fresh_demo.having(metrics_file="/dev/full").types("run", "--quiet", "--no-sample")
    assert "BACKFILL_METRICS_FILE /dev/full: No space left on device" in said.err
    assert said.err.count("/dev/full") == 1
    (tmp_path / "metrics").mkdir()
    (tmp_path / "hook").chmod(0o755)
    hook = f"#!/bin/sh\nrm -rf {tmp_path}/metrics\n"  # the folder goes while the run is on its way
    (tmp_path / "hook").write_text(hook)
    gone = fresh_demo.having(hook=str(tmp_path / "hook"), metrics_file=str(tmp_path / "metrics" / "x"))
    assert "there is no folder" in gone.types("run", "--quiet", "--no-sample").err


@pytest.mark.parametrize("revisions", [["9999_future"], ["0001_expand", "0007_other"]])
def test_a_ledger_of_another_version_is_one_line(finished_run, revisions):
    query(finished_run.url, "delete from backfill.alembic_version")
    for revision in revisions:
        query(finished_run.url, "insert into backfill.alembic_version values (%s)", revision)
    for command in (["run", "--no-sample"], ["verify"], ["seal", "user_events"]):
        said = finished_run.types(*command, expect=2).err
        assert "The ledger's revision (in backfill.alembic_version) is not one" in said
        assert revisions[-1] in said
        assert said.count("\n") <= 2


BROKEN = """
import sys
from backfill.cli import control
def broken(*_words, **_named):
    secret = "203.0.113.77"
    raise ValueError(f"row 203.0.113.77 is odd")
control.run_status = broken
sys.argv[1:] = {words}
from backfill.cli.main import main
main()
"""


def test_an_error_that_nobody_expected_tells_its_kind_and_place_and_no_value(finished_run):
    def types(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", BROKEN.format(words=list(words))],
            env=os.environ | finished_run.variables,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )

    plain, debugged = types("status"), types("--debug", "status")
    assert (plain.returncode, debugged.returncode) == (70, 70)
    assert plain.stderr.count("\n") == 1
    assert plain.stderr.startswith(
        "backfill: an error in Backfill itself (ValueError in backfill/cli/control.py:"
    )
    assert "backfill --debug" in plain.stderr
    assert "in broken" in debugged.stderr
    for said in (plain, debugged):
        assert "203.0.113.77" not in said.stdout + said.stderr
        assert "Traceback" not in said.stderr


def test_debug_shows_where_a_known_error_arose_without_the_statement(finished_run, tmp_path):
    said = finished_run.having(plan=str(tmp_path / "none.toml")).really_types("--debug", "plan")
    assert said.code == 2
    assert "backfill/plan.py:" in said.err
    assert "FileNotFoundError: No such file or directory" in said.err


@pytest.mark.parametrize(
    "content",
    [
        "[" * 200_000,
        '{"version": ' + "9" * 5_000 + "}",
        "[]",
        '{"version": 1, "items": [1]}',
        '{"version": 1, "items": [{"item": "1", "holdings": [{"table": "t", "columns": {"a": "x"}, "holds": {}}]}]}',
        '{"version": 1, "items": [{"item": "1", "holdings": [{"table": "t", "columns": {"a": -1}, "holds": {}}]}]}',
    ],
)
def test_an_odd_disclosure_is_one_line(tmp_path: Path, content):
    (tmp_path / "odd.json").write_text(content)
    said = Operator("").types("disclose", "--compare", tmp_path / "odd.json", tmp_path / "odd.json", expect=2)
    assert "is no disclosure" in said.err
