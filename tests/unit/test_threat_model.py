"""The threat model's table names, for each attacker, a test that exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
SECTION = TEXT.partition("## Who attacks, and what stops them")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in SECTION.splitlines()
    if line.startswith("| ") and not line.startswith(("| **", "| who |"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_each_attacker_has_a_way_a_protection_and_a_test(row: list[str]) -> None:
    assert len(row) == 4
    assert all(row)
    assert all(test for _, test in NAMED.findall(row[3]))
    assert NAMED.findall(row[3])


@pytest.mark.parametrize(("path", "test"), sorted(set(NAMED.findall(TEXT))))
def test_every_test_that_the_threat_model_names_exists(path: str, test: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not test or test in names


def test_the_table_was_found() -> None:
    assert len(ROWS) > 3
    assert "**Not stopped**" in TEXT
