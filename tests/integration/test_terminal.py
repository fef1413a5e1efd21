"""Every command that reports, on a terminal of 80 and of 120 columns, and as JSON."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios

import click
import jsonschema
from referencing import Registry, Resource
from rich.cells import cell_len

from backfill.cli.main import cli
from tests.databases import query
from tests.operator import BIN, ROOT

# Each on a database with something to say: the run is over, rows wait in the quarantine, verify found them.
REPORTING = (
    ["plan"],
    ["calibrate"],
    ["status"],
    ["gates"],
    ["gates", "--checklist"],
    ["quarantine", "list"],
    ["quarantine", "settle"],
    ["addresses", "merge"],
    ["verify"],
    ["report"],
    ["scan"],
    ["config"],
    ["server", "status"],
    ["disclose", "USERNAME"],
    ["erase", "--dry-run"],
    ["prove", "--depth", "pages"],
    ["lookup", "--row", "1"],
    ["ban", "--reason", "authentication-attempts", "--hash", "0" * 64, "--hash", "1" * 64],
    ["run", "--no-sample", "--quiet"],
    ["--help"],
    ["run", "--help"],
)
SHORT = (
    ["addresses", "keep"],
    ["repair"],
    ["pause"],
    ["resume"],
    ["cancel"],
)  # one line, where there is nothing to change
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def commands(operator, written):
    """With a user of that database."""
    [(name,)] = query(operator.url, "select username from users where username <> '' order by id limit 1")
    return [[name if word == "USERNAME" else word for word in words] for words in written]


def every_command(group, before=()):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def test_no_line_of_a_command_is_wider_than_the_terminal(finished_run):
    finished_run.types("verify", expect=1)
    for command in commands(finished_run, REPORTING):
        for columns in (80, 120):
            said = finished_run.is_told(*command, columns=columns)
            lines = COLOUR.sub("", said.out + said.err).split("\n")
            wide = [line for line in lines if cell_len(line) > columns and " " in line.strip()]
            assert not wide, (command, columns, wide)
            assert len(lines) > 2 or command[0] == "erase", (command, said)


def schema() -> jsonschema.Draft202012Validator:
    """Of ``--format json``, with that of the report beside it."""
    read = {
        name: json.loads((ROOT / "docs" / f"{name}.schema.json").read_text()) for name in ("output", "report")
    }
    registry = Registry().with_resources(
        (content["$id"], Resource.from_contents(content)) for content in read.values()
    )
    return jsonschema.Draft202012Validator(read["output"], registry=registry)


def test_every_command_that_reports_has_one_envelope_of_json_and_a_verdict_at_its_end(finished_run):
    published = schema()
    seen = set()
    for command in commands(finished_run, REPORTING + SHORT):
        if command[-1] == "--help":
            continue
        said = finished_run.types(*command, "--format", "json", expect=None)
        content = json.loads(said.out)
        assert [error.message for error in published.iter_errors(content)] == [], command
        assert content["exit_code"] == said.code
        assert content["ok"] == (said.code == 0)
        assert " ".join(command).startswith(content["command"])
        assert content["database"] or command[0] in ("config", "server") or "--checklist" in command
        assert list(published.iter_errors({**content, "surprise": 1}))
        seen.add(content["command"])
    offered = {
        name
        for name, command in every_command(cli)
        if any(option.name == "form" and "json" in (option.type.choices) for option in command.params)
    }
    assert offered - {"logs", "unban"} == seen  # logs: the form of a log; unban: as ban


def test_what_steers_a_run_answers_in_json(finished_run):
    query(finished_run.url, "update backfill.runs set status = 'running', finished = null")
    for command, status, following in (
        ("pause", "paused", "backfill run"),
        ("cancel", "cancelled", "backfill run"),
    ):
        content = json.loads(finished_run.types(command, "--format", "json").out)
        assert list(schema().iter_errors(content)) == []
        assert (content["run"], content["status"], content["next"]) == (1, status, [following])
        assert query(finished_run.url, "select status from backfill.runs") == [(status,)]


def test_a_command_that_fails_says_so_in_json_as_well(fresh_demo):
    for command in (["status"], ["gates"], ["erase"], ["quarantine", "list"], ["plan", "nonsense"]):
        said = fresh_demo.types(*command, "--format", "json", expect=None)
        content = json.loads(said.out)
        assert list(schema().iter_errors(content)) == []
        assert said.code == content["exit_code"] != 0
        assert content["failure"]
        assert content["verdict"] in said.err


def test_a_real_terminal_of_80_columns(finished_run):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = subprocess.Popen(
        [BIN / "backfill", "gates"],
        env=os.environ | {"TERM": "xterm"} | finished_run.variables,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=ROOT,
    )
    os.close(slave)
    content = b""
    while True:
        try:
            content += os.read(master, 65536)
        except OSError:  # how a terminal says that its program is gone
            break
    os.close(master)
    assert process.wait() == 1
    shown = content.decode().replace("\r\n", "\n")
    assert "\x1b[" in shown
    assert "blocked guard user_events" in COLOUR.sub("", shown)
    assert max(map(len, COLOUR.sub("", shown).split("\n"))) <= 80
