"""docs/quickstart.md, typed line by line by a role that is no superuser, in a repository of somebody's own.

A line is expanded by bash, which also keeps what it exports; `backfill` and `make` are carried out in this process.
"""

import os
import re
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from backfill.embedded.binaries import Binaries
from tests.databases import Databases, query
from tests.operator import BIN, ROOT, Operator, Said

PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
URL = "postgresql://ops@127.0.0.1:5432/app"
INSTALLING = ("git clone", "make .venv/.demo")
EXPANDED = r"""eval "set -- $LINE" && printf '%s\0' "$@" """
KEPT = r"""set -e; eval "$LINE"; env -0"""
ENDS = re.compile(r"# (\d) as ops$")


def typed(page: str) -> list[str]:
    """The indented lines, which are those for `ops`, in order, but for those that install; comments stay."""
    lines = re.findall(r"^    (.+)$", page, re.MULTILINE)
    return [line for line in lines if not line.startswith(INSTALLING)]


def recipe(target: str) -> list[str]:
    """The words after `backfill` that this target of the Makefile runs."""
    (words,) = re.findall(rf"^{target}:.*\n\t@\$\(BIN\)/backfill (.+)$", MAKEFILE, re.MULTILINE)
    return str(words).split()


class Terminal:
    """A shell in *place*: its variables, and what was said."""

    def __init__(self, place: Path, operator: Operator) -> None:
        self.place, self.operator = place, operator
        self.variables = {
            name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")
        }
        self.said: list[tuple[str, Said]] = []

    def bash(self, script: str, line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.place,
            env=self.variables | {"LINE": line},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout.decode().split("\0")[:-1]

    def types(self, line: str) -> None:
        tool = line.split()[0]
        if tool not in ("backfill", "make"):
            kept = dict(pair.split("=", 1) for pair in self.bash(KEPT, line))
            self.variables = {name: value for name, value in kept.items() if name != "LINE"}
            return
        words = self.bash(EXPANDED, line)[1:]
        ends = ENDS.search(line)
        for command in [words] if tool == "backfill" else map(recipe, words):
            settings = {name: value for name, value in self.variables.items() if name.startswith("BACKFILL_")}
            said = Operator(self.operator.url, self.operator.variables | settings).types(
                *command, expect=int(ends[1]) if ends else 0
            )
            self.said.append((" ".join(command[:2]), said))


@pytest.fixture
def ops(databases: Databases) -> Iterator[str]:
    """The URL of an empty database that belongs to an ordinary role, and what is left of both is removed."""
    url, role = databases.create(), f"ops_{uuid.uuid4().hex[:8]}"
    query(url, f"create role {role} login")
    query(url, f"alter database {make_url(url).database} owner to {role}")
    yield make_url(url).set(drivername="postgresql", username=role).render_as_string(hide_password=False)
    query(url, f"drop owned by {role} cascade")
    databases.drop(url)
    query(databases.server_url, f"drop role {role}")


def test_the_page_is_typed_by_an_ordinary_role_and_leaves_nothing_that_git_would_add(
    ops: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, home = tmp_path / "checkout", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "init", "--quiet", checkout], check=True)
    monkeypatch.chdir(checkout)
    terminal = Terminal(checkout, Operator(ops, {"BACKFILL_WORKERS": "1"}))
    programs = Binaries.find().folder
    terminal.variables |= {"HOME": str(home), "PATH": f"{BIN}:{programs}:{os.environ['PATH']}"}
    for line in typed(PAGE):
        terminal.types(line.replace(URL, f"'{ops}'"))

    said = dict(terminal.said)
    assert "sha256-suffix" in said["calibrate"].out
    assert "ip_addresses.ip_address is dropped" in said["migrate"].out
    assert "pg_statistic: LEFT" in said["erase"].out
    assert not query(ops, "select rolsuper from pg_roles where rolname = current_user")[0][0]
    trial = home / "backfill-trial"
    for path in (trial, trial / "ip-salt", trial / "before-the-drop.dump"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    untracked = ["git", "-C", checkout, "status", "--porcelain", "--untracked-files=all"]
    assert subprocess.run(untracked, capture_output=True, check=True).stdout == b""


def test_what_erase_and_prove_give_an_ordinary_role_is_said_before_step_6() -> None:
    said = " ".join(PAGE.partition("## 6.")[0].split())
    assert "`erase` and `prove` end with 1" in said
    assert "superuser" in said
