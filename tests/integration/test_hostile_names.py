"""Names and values of other people: nothing that they hold is obeyed by a terminal, Markdown, a shell or a statement."""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from backfill import escaping
from backfill.cli.context import Session
from backfill.cli.control import _standing
from backfill.engine.observers.metrics import RunCollector
from backfill.errors import NoShadow
from backfill.settings import Settings
from tests.databases import query
from tests.hostile import ADDRESSES, COLUMN, KEY, NEVER, RESTORE_POINT, SCHEMA, TABLE, hostile
from tests.operator import Operator

JOB = f"{SCHEMA}.{TABLE}"
SHOWING = (
    ["plan"],
    ["scan"],
    ["scan", "--format", "toml"],
    ["run", "--quiet", "--log-format", "human"],
    ["run", "--quiet", "--log-format", "json"],
    ["status"],
    ["quarantine", "list"],
    ["verify"],
    ["gates"],
    ["gates", "--checklist"],
    ["report"],
    ["report", "--format", "markdown"],
    ["report", "--format", "html"],
    ["seal", JOB],
    ["unseal", JOB],
    ["cutover", JOB],
    ["nonsense\x1b[2J"],
    ["erase", "--dry-run"],
    ["erase"],
    ["prove"],
)


@pytest.fixture
def hostile_operator(database: str, tmp_path: Path) -> Operator:
    return hostile(database, tmp_path)


def test_no_command_and_no_format_hands_on_what_a_terminal_obeys(hostile_operator):
    for words in SHOWING:
        said = hostile_operator.is_told(*words)
        assert said.code not in (70, 255), (words, said)
        assert "Traceback" not in said.err
        obeyed = [mark for mark in NEVER if mark in said.out + said.err]
        assert not obeyed, (words, obeyed)
        if "markdown" in words:
            assert "<b>" not in re.sub(r"`[^`]*`", "", said.out)
            for line in said.out.splitlines():
                if line.startswith("|"):
                    assert line.endswith("|"), line  # no cell breaks its row
        if "html" in words:
            assert "<script>" not in said.out
            assert "<b>#" not in said.out


def test_the_whole_way_is_gone_under_such_names(hostile_operator):
    operator = hostile_operator
    operator.types("run", "--quiet")
    entries = json.loads(operator.types("quarantine", "list", "--format", "json").out)["rows"]
    assert len(entries) == 2
    shown = operator.types("quarantine", "list").out
    (command,) = re.findall(r"To settle: `(.*)` \(or `--as discard`\)", shown)
    words = shell_words(command)
    assert words[:4] == ["backfill", "quarantine", "settle", JOB]
    operator.types("quarantine", "settle", words[3], "--as", "discard", "--count", 2)
    operator.types("verify")
    schema, table, column = (name.replace("%", "%%").replace('"', '""') for name in (SCHEMA, TABLE, COLUMN))
    assert query(
        operator.url, f'select count(*) from "{schema}"."{table}" where "{column}" is not null and 1 = %s', 1
    ) == [(3,)]
    assert query(operator.url, "select count(*) from backfill.coverage where covered")[0][0] == 2


def shell_words(command: str) -> list[str]:
    """As Bash splits it."""
    said = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, text=True
    )
    return said.stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    "name",
    [JOB, ADDRESSES, KEY, RESTORE_POINT, "plain", "Upper.Case", "with space", "two  spaces", "$(id)", "`id`", "it's", 'a"b', "-x", "", "é", "a\nb\tc", "\\x"],
)  # fmt: skip
def test_a_printed_word_comes_back_from_a_shell_as_it_was(name):
    printed = escaping.command("backfill", "seal", name)
    assert "\n" not in printed
    assert not [mark for mark in NEVER if mark in printed]
    assert " ".join(printed.split()) == printed  # a message is one line
    assert shell_words(printed) == ["backfill", "seal", name]


def test_an_error_quotes_the_words_of_its_command():
    text = str(NoShadow(table="a b; rm -rf $HOME", state=""))
    (command,) = re.findall("`(.*)`", text)
    assert shlex.split(command) == ["backfill", "run", "--strategy", "shadow", "a b; rm -rf $HOME"]


def test_what_scan_writes_for_such_names_is_toml_of_them(hostile_operator):
    operator = hostile_operator
    query(operator.url, f'create table public."{TABLE}" (id int primary key, "{COLUMN}" text)')
    out = operator.types("scan", "--format", "toml", expect=None).out
    tomllib.loads(out)
    assert not [mark for mark in NEVER if mark in out]


def test_labels_of_metrics_keep_to_their_line(hostile_operator):
    operator = hostile_operator
    operator.types("run", "--quiet")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in operator.variables.items():
            patch.setenv(name, value)
        session = Session(Settings.load())
        registry = CollectorRegistry()
        registry.register(RunCollector(lambda: _standing(session)))
        text = generate_latest(registry).decode()
        session.close()
    assert "backfill_up 1.0" in text
    assert not [mark for mark in NEVER if mark in text]
    assert all(re.match(r"# |[a-z_]+(\{.*\})? [0-9.e+-]+$", line) for line in text.splitlines())


def test_a_restore_point_is_on_record_as_it_was_given(settled_run):
    settled_run.types("verify")
    settled_run.migrates("0002_journals", restore_point=RESTORE_POINT)
    ((kept,),) = query(
        settled_run.url, "select detail ->> 'restore point' from backfill.decisions where kind = 'drop'"
    )
    assert kept == RESTORE_POINT
