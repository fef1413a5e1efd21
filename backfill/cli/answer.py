"""Answer: how a command that reports ends: one verdict in words and the next command, or one envelope of JSON.

``docs/output.schema.json`` describes the envelope and, by command, the facts beside it.
"""

import functools
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click

from backfill import __version__
from backfill.cli import output
from backfill.errors import BackfillError
from backfill.report.document import Tone

VERSION = 1  # of the JSON; a key may be added, none may change its meaning
JSON = "json"
FORMATS = ("text", JSON)
_COMMAND = re.compile(r"`(backfill [^`]+)`")


@dataclass(frozen=True)
class Answer:
    """What a command came to. *next*: commands, in their order. *facts*: for machines, by stable names."""

    verdict: str
    next: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    code: int = 0  # with which the command ends
    tone: Tone | None = None

    @property
    def line(self) -> str:
        """The last line of a command."""
        if not self.next:
            return self.verdict
        return f"{self.verdict} Next: {', then '.join(f'`{command}`' for command in self.next)}."


def commands_in(*texts: str) -> tuple[str, ...]:
    """The commands that stand between backticks there, each once."""
    return tuple(dict.fromkeys(found for text in texts for found in _COMMAND.findall(text)))


def format_option(command: click.decorators.FC) -> click.decorators.FC:
    """``--format``."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default=FORMATS[0],
        show_default=True,
        help="text, or json (docs/output.schema.json).",
    )(command)


def answers(command: Callable[..., Answer | None]) -> Callable[..., None]:
    """A command with ``--format`` that returns its answer. With JSON, standard output has the envelope alone, also when
    the command fails; whatever else it says goes to standard error."""
    asks = "form" in inspect.signature(command).parameters

    @functools.wraps(command)
    def answering(*given: Any, form: str, **options: Any) -> None:
        if asks:
            options["form"] = form
        if form != JSON:
            answer = command(*given, **options)
        else:
            with failures_told(form), redirect_stdout(sys.stderr):
                answer = command(*given, **options)
        if answer is not None:
            tell(answer, form)
            if answer.code:
                click.get_current_context().exit(answer.code)

    return format_option(answering)


@contextmanager
def failures_told(form: str) -> Iterator[None]:
    """What ends the command is in its JSON as well."""
    try:
        yield
    except BackfillError as error:
        if form == JSON:
            kind = {"failure": type(error).__name__}
            tell(Answer(str(error), commands_in(str(error)), kind, error.exit_code), form)
        raise


def tell(answer: Answer, form: str, *, one_line: bool = False) -> None:
    """The last line of the command, or its envelope."""
    if form == JSON:
        output.unwrapped(json.dumps(envelope(answer), indent=None if one_line else 2, default=str) + "\n")
    else:
        output.say(answer.line, answer.tone or (Tone.ALARM if answer.code else Tone.DONE))


def envelope(answer: Answer) -> dict[str, Any]:
    """The answer as plain data: what all commands have in common, and the facts of this one."""
    context = click.get_current_context()
    common = {
        "version": VERSION,
        "command": _name(context),
        "tool": f"backfill {__version__}",
        "made": datetime.now(UTC).isoformat(),
        "database": _database(context),
        "ok": not answer.code,
        "exit_code": answer.code,
        "verdict": answer.verdict,
        "next": list(answer.next),
    }
    return common | {name: value for name, value in answer.facts.items() if name not in common}


def _name(context: click.Context) -> str:
    words: list[str] = []
    while context.parent is not None:
        words.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(words)


def _database(context: click.Context) -> str | None:
    """Its name, where the command opened one."""
    engine = getattr(context.find_root().obj, "__dict__", {}).get(
        "engine"
    )  # of the session, once it was asked for
    return None if engine is None else str(engine.url.database)
