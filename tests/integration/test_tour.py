"""``make demo``: the whole way in one command, to the proof that the bytes are gone."""

import os
import subprocess

from tests.conftest import temporary_home
from tests.operator import BIN, ROOT


def test_the_tour_ends_with_erase_and_prove_and_its_report_says_what_is_left():
    with temporary_home() as home:
        home.mkdir()
        environment = {name: text for name, text in os.environ.items() if not name.startswith("BACKFILL_")}
        done = subprocess.run(
            [BIN / "backfill", "demo", "--tour", "--events", "1000"],
            env=environment | {"BACKFILL_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        steps = [line for line in done.stdout.splitlines() if line.startswith("── ")]
        assert [step.split()[1].rstrip(":") for step in steps][-4:] == ["erase", "prove", "report", "after"]
        assert "The raw addresses are gone from tables and files." in done.stdout
        assert f"Report: {home / 'report.html'}" in done.stdout
        assert "`backfill server stop` stops it" in done.stdout.rstrip().splitlines()[-1]
        report = (home / "report.html").read_text(encoding="utf-8")
        assert "What is left, and who must act" in report
        assert "Gone from this database and the files of this server: every raw column was dropped" in report
        assert "no raw address was found there" in report
        assert "restore point" in report
