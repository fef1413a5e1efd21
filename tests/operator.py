"""An operator at a terminal: types commands, sees output and exit code. In this process, or in one of its own."""

import inspect
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import click
import pytest
from alembic.config import Config
from alembic.util import CommandError
from click.testing import CliRunner

from alembic import command
from backfill.cli.context import Session
from backfill.cli.main import cli, main
from backfill.database.connection import translated
from backfill.engine import signals
from backfill.engine.phase_hooks import NO_HOOKS, PhaseHooks
from backfill.engine.worker_phases import MakePool
from backfill.errors import BackfillError
from backfill.settings import Settings
from tests.demo_template import TABLES

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
# click 8.1 mixes the two streams unless asked not to; later ones know no such word.
APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str = ""


@dataclass(frozen=True)
class Operator:
    """Works on one database with the variables of an operator."""

    url: str
    variables: dict[str, str] = field(default_factory=dict)
    hooks: PhaseHooks = NO_HOOKS
    pool: MakePool | None = None

    def having(self, **variables: str) -> "Operator":
        """The same operator with other variables; an empty one is unset."""
        merged = self.variables | {f"BACKFILL_{name.upper()}": value for name, value in variables.items()}
        return replace(self, variables={name: value for name, value in merged.items() if value})

    def hooked(self, **hooks: Callable[..., None]) -> "Operator":
        """The same operator, whose runs call these ``PhaseHooks``."""
        return replace(self, hooks=PhaseHooks(**hooks))

    def types(self, *words: object, expect: int | None = 0, sends: str | bytes | None = None) -> Said:
        """``backfill WORDS…`` in this process; fails the test when it ends with another code. *sends*: standard input."""
        runner = CliRunner(env=dict(self.variables), **APART)
        result = runner.invoke(_command, list(map(str, words)), obj=self, input=sends)
        problem = result.exception
        if isinstance(problem, BackfillError):
            said = Said(problem.exit_code, result.stdout, f"{result.stderr}backfill: {problem}\n")
        elif problem is not None and not isinstance(problem, SystemExit):
            raise problem
        else:
            said = Said(result.exit_code, result.stdout, result.stderr)
        assert expect is None or said.code == expect, said
        return said

    def migrates(self, to: str = "head", *, restore_point: str | None = "before", down: bool = False) -> str:
        """``alembic upgrade TO`` in this process; what it printed. Raises ``CommandError``."""
        config = Config(str(ROOT / "alembic.ini"), stdout=io.StringIO())
        variables = self.variables | ({"BACKFILL_RESTORE_POINT": restore_point} if restore_point else {})
        with mock.patch.dict(os.environ, variables):
            (command.downgrade if down else command.upgrade)(config, to)
        return config.stdout.getvalue()

    def is_refused(self, to: str = "head", *, restore_point: str | None = "before") -> str:
        """``alembic upgrade TO``, which has to refuse; the one line that the operator reads."""
        with pytest.raises(CommandError) as refusal:
            self.migrates(to, restore_point=restore_point)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    def settles_everything(self) -> None:
        """Link to the sentinel what waits in the quarantine, merge the duplicates."""
        for table in TABLES:
            number = len(self.waiting(table))
            if number:
                self.types("quarantine", "settle", table, "--as", "sentinel", "--count", number)
        number = len(self.waiting("ip_addresses"))
        self.types("addresses", "merge", "--count", number)

    def waiting(self, table: str) -> dict[str, str]:
        """``row key → reason`` of what waits for a decision."""
        found = json.loads(self.types("quarantine", "list", table, "--format", "json").out)["rows"]
        return {entry["key"]: entry["reason"] for entry in found}

    def starts(self, *words: object, tool: str = "backfill", **options: object) -> "subprocess.Popen[str]":
        """A real process in a group of its own."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
        return subprocess.Popen(
            [str(BIN / tool), *map(str, words)],
            env=environment | self.variables,
            **{"stdin": subprocess.DEVNULL, **options},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=ROOT,
        )

    def is_told(self, *words: object, columns: int = 0) -> Said:
        """``backfill WORDS…`` in this process, by way of ``main``: as in one of its own, but for signals. *columns*: on
        a terminal of that width."""
        width = {"COLUMNS": str(columns)} if columns else {}
        runner = CliRunner(env={**self.variables, **width}, **APART)
        with (
            runner.isolation() as streams,
            mock.patch.object(sys.stdout, "isatty", return_value=bool(columns)),
            mock.patch.object(sys.stderr, "isatty", return_value=bool(columns)),
            mock.patch.object(sys, "argv", ["backfill", *map(str, words)]),
            mock.patch.object(signals, "obeyed", nullcontext),
            mock.patch.object(threading, "excepthook", threading.excepthook),
        ):
            with pytest.raises(SystemExit) as ending:
                main()
            sys.stdout.flush()
            sys.stderr.flush()
            out, err = (stream.getvalue().decode() for stream in streams[:2])
        return Said(int(ending.value.code or 0), out, err)

    def really_types(self, *words: object, tool: str = "backfill", sends: str | None = None) -> Said:
        """The command in a process of its own, to its end. *sends*: standard input."""
        given = {} if sends is None else {"stdin": subprocess.PIPE}
        with self.starts(*words, tool=tool, **given) as process:
            out, err = process.communicate(sends, timeout=120)
        return Said(process.returncode, out, err)


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def _command(context: click.Context, words: tuple[str, ...]) -> None:
    """As ``backfill.cli.main.main`` runs it, with the driver's errors translated."""
    operator: Operator = context.obj
    with translated(), ExitStack() as stack:
        session = None  # the command makes its own
        if operator.hooks is not NO_HOOKS or operator.pool is not None:
            session = Session(Settings.load(), hooks=operator.hooks, pool=operator.pool)
            stack.callback(session.close)
        context.exit(cli.main(list(words), standalone_mode=False, obj=session) or 0)


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """*process*, killed at the end of the block if it is still there."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
