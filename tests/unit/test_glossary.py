"""The glossary is in order, and no identifier is a word that was given up for one of its own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from backfill.cli.main import cli
from backfill.ledger.tables import metadata

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
WORDS = [line.split("|")[1].strip() for line in TEXT.splitlines() if re.match(r"\| \w", line)][1:]

# Module, class, function, field, option, JSON key, table or column of the ledger: by exact match, whatever
# the case and whether public. Each with the word that is used instead.
FORBIDDEN = {
    "accept_strays": "accept mismatches",
    "account": "batch result",
    "attempt": "run_batch; attempts",
    "at_desk": "client phases",
    "blueprint": "table definition",
    "churn": "index hint",
    "crew": "worker phases",
    "desk": "client phases",
    "errand": "run context",
    "excerpt": "batch map",
    "flaws": "blockers",
    "hold_cutover": "postpone cutover",
    "hold_query": "throttle query",
    "judgement": "classification",
    "limits": "timeouts",
    "mend": "fix",
    "mender": "recovery",
    "misfiled": "linked to the sentinel",
    "proof": "expected rows; erasure check; coverage record",
    "residue": "external copy",
    "setup": "worker config",
    "stray": "mismatch",
    "strays": "mismatches",
    "ticket": "batch ref",
    "trouble": "transient error",
    "troubles": "transient errors",
    "turn": "pass",
    "unjudged": "own link kept",
}


def options(command: click.Command) -> Iterator[str]:
    """Every option of the command, and of those below it."""
    for parameter in command.params:
        yield from (option.lstrip("-").replace("-", "_") for option in parameter.opts)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from options(command.get_command(context, name))


def of_source(tree: ast.Module) -> Iterator[str]:
    """What a module defines: classes, functions, fields, members of an enumeration; keys of dictionaries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    yield ast.unparse(field.target)
                elif isinstance(field, ast.Assign):
                    yield from (ast.unparse(target) for target in field.targets)
                    yield from strings(field.value)
        if isinstance(node, ast.Dict):
            for key in node.keys:
                yield from strings(key)


def strings(node: ast.expr | None) -> Iterator[str]:
    """The string that an expression is, or the strings of a tuple."""
    for part in node.elts if isinstance(node, ast.Tuple) else [node]:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def identifiers() -> dict[str, str]:
    """Identifier, as it is compared → where it is."""
    found = dict.fromkeys(options(cli), "an option")
    for table in metadata.tables.values():
        found |= dict.fromkeys([table.name, *(column.name for column in table.columns)], "the ledger")
    for path in (ROOT / "backfill").rglob("*.py"):
        where = str(path.relative_to(ROOT))
        names = [path.stem, *of_source(ast.parse(path.read_text(encoding="utf-8")))]
        found |= dict.fromkeys(names, where)
    return {name.strip("_").replace("-", "_").lower(): where for name, where in found.items()}


IDENTIFIERS = identifiers()


@pytest.mark.parametrize(("word", "instead"), FORBIDDEN.items())
def test_a_word_that_was_given_up_names_nothing(word, instead):
    assert word not in IDENTIFIERS, f"{IDENTIFIERS[word]}: {word!r} is {instead!r} in this project"


def test_identifiers_were_found():
    assert {"accept", "link", "cancelled", "already_linked", "of_source"} - IDENTIFIERS.keys() == {
        "of_source"
    }
    assert len(IDENTIFIERS) > 1500


def test_the_glossary_is_in_order_and_defines_each_word_once():
    assert len(WORDS) > 50
    assert sorted(set(WORDS), key=str.lower) == WORDS


def test_no_word_of_the_glossary_was_given_up():
    assert not {part for word in WORDS for part in word.split(", ")} & FORBIDDEN.keys()
