"""Advice: in every state of a database, the commands that are printed can be typed, and whoever follows them arrives."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

import click
import pytest
from alembic.config import CommandLine
from alembic.util import CommandError

from backfill.cli.main import cli
from tests.databases import query
from tests.integration.test_damage import link_elsewhere, some, take_the_geo_away, unlink
from tests.names import guard
from tests.operator import ROOT, Operator

QUOTED = re.compile(r"`((?:backfill|alembic|make) [^`]+)`")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@dataclass
class Walk:
    """An operator who types what is printed, and nothing else."""

    operator: Operator
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)

    def types(self, command: str) -> list[str]:
        """What one command advises; fails the test where the same command said the same before."""
        code, said = typed(self.operator, command)
        self.story.append(f"$ {command}\n[{code}] {said}")
        key = (command, re.sub(r"\d[\d,.:-]*", "#", said))
        self.seen[key] = self.seen.get(key, 0) + 1
        assert self.seen[key] < 3, "in a circle:\n" + "\n".join(self.story)
        return advised(said)

    def follows(self, first: str, longest: int = 80) -> None:
        """From *first* on until nothing is advised any more; after a revision comes the question what is next."""
        ahead = [first]
        for _ in range(longest):
            if not ahead:
                return
            command = ahead.pop(0)
            found = self.types(command)
            if command.startswith("alembic") and not (found or ahead):
                found = ["backfill gates"]
            ahead = found or ahead
        raise AssertionError("no end:\n" + "\n".join(self.story))


def commands(text: str) -> list[str]:
    """Everything quoted that is to be typed."""
    return [re.sub(r"\s+", " ", found) for found in QUOTED.findall(text)]


def advised(said: str) -> list[str]:
    """The commands of the first line that says what comes next, or of the first that quotes any."""
    lines = [line for line in said.splitlines() if commands(line)]
    chosen = [
        line for line in lines if "Next:" in line or "To settle:" in line or "To fix it:" in line
    ] or lines
    return commands(chosen[0]) if chosen else []


def typed(operator: Operator, command: str) -> tuple[int, str]:
    """Exit code and output of a printed command, with one of its choices."""
    words = filled(operator, command)
    if words[0] == "backfill":
        said = operator.types(*words[1:], expect=None)
        return said.code, said.out + said.err
    try:
        return 0, operator.migrates(words[-1], restore_point="nightly", down=words[1] == "downgrade")
    except CommandError as error:
        return 255, str(error)


def filled(operator: Operator, command: str) -> list[str]:
    words = [word.split("|")[0] for word in shlex.split(command)]
    if "N" in words:
        table = "ip_addresses" if "merge" in words else words[3]
        words[words.index("N")] = str(len(operator.waiting(table)))
    return words


def valid(command: str) -> None:
    """Whether the tool takes these words; nothing is run."""
    words = [word.split("|")[0] for word in shlex.split(command)]
    words = [{"N": "1", "PATH": "."}.get(word, word) for word in words]
    if words[0] == "make":
        assert words[1] in TARGETS, command
    elif words[0] == "alembic":
        CommandLine().parser.parse_args(words[1:])
    else:
        context = click.Context(cli)
        found, rest = cli, words[1:]
        while isinstance(found, click.Group):
            _, command_, rest = found.resolve_command(context, rest)
            assert command_ is not None
            found = command_
        try:
            found.make_context("x", list(rest), parent=context)
        except click.UsageError as error:
            raise AssertionError(f"`{command}`: {error.format_message()}") from error


# States


def fresh(reach: Callable[[str], Operator]) -> Operator:
    return reach("small demo")


def quarantined(reach: Callable[[str], Operator]) -> Operator:
    return reach("run")


def settled(reach: Callable[[str], Operator]) -> Operator:
    return reach("settled")


def proved(reach: Callable[[str], Operator]) -> Operator:
    return reach("proved")


def damaged(reach: Callable[[str], Operator]) -> Operator:
    operator = reach("proved")
    unlink(operator, some(operator, 2))
    link_elsewhere(operator, some(operator, 1))
    take_the_geo_away(operator, some(operator, 1))
    return operator


def seen_to_be_damaged(reach: Callable[[str], Operator]) -> Operator:
    operator = damaged(reach)
    operator.types("verify", expect=1)
    return operator


def guarded(reach: Callable[[str], Operator]) -> Operator:
    operator = reach("proved")
    operator.migrates("0003b_team_events")
    return operator


def guard_lost(reach: Callable[[str], Operator]) -> Operator:
    operator = guarded(reach)
    query(operator.url, f"drop trigger {guard('project_events')} on project_events")
    return operator


def half_migrated(reach: Callable[[str], Operator]) -> Operator:
    operator = reach("proved")
    operator.migrates("0004_user_events")
    return operator


def only_addresses_left(reach: Callable[[str], Operator]) -> Operator:
    operator = reach("proved")
    operator.migrates("0005a_ip_address_optional")
    return operator


def written_to(reach: Callable[[str], Operator]) -> Operator:
    """The application goes on after the verification."""
    operator = reach("proved")
    query(
        operator.url,
        "insert into user_events (source_id, tag, ip_address_string, time)"
        " select source_id, 'live', '198.51.100.77', now() from user_events limit 1",
    )
    return operator


def migrated(reach: Callable[[str], Operator]) -> Operator:
    return reach("migrated")


def erased(reach: Callable[[str], Operator]) -> Operator:
    return reach("erased")


STATES = (fresh, quarantined, settled, proved, damaged, seen_to_be_damaged, guarded, guard_lost, half_migrated, only_addresses_left, written_to, migrated, erased)  # fmt: skip
# Each where something else is advised; the others are steps between them.
QUICK = {fresh, seen_to_be_damaged, guard_lost, only_addresses_left, written_to, migrated}
QUESTIONS = ("plan --no-sample", "calibrate", "status", "verify", "gates", "quarantine list", "prove", "erase --dry-run", "report --format md")  # fmt: skip


@pytest.fixture
def reached(request: pytest.FixtureRequest, operator_of: Callable[[str], Operator]) -> Operator:
    return request.param(operator_of).having(restore_point="nightly")


@pytest.mark.parametrize(
    "reached",
    [pytest.param(one, id=one.__name__, marks=() if one in QUICK else pytest.mark.slow) for one in STATES],
    indirect=True,
)
def test_every_command_that_is_printed_can_be_typed(reached: Operator) -> None:
    for question in QUESTIONS:
        _, said = typed(reached, f"backfill {question}")
        assert "Traceback" not in said
        for command in commands(said):
            valid(command)


# Every walk ends as that of ``proved`` does; these begin where something is in the way, or is done already.
BEGINNINGS = (fresh, seen_to_be_damaged, guard_lost, written_to, only_addresses_left, migrated, erased)


@pytest.mark.slow  # minutes in all
@pytest.mark.parametrize("reached", BEGINNINGS, indirect=True, ids=lambda state: state.__name__)
def test_whoever_types_what_is_printed_arrives(reached: Operator) -> None:
    walk = Walk(reached)
    walk.follows("backfill plan --no-sample")
    gates = reached.types("gates").out
    assert gates.startswith("Everything is done"), "\n".join(walk.story) + gates
