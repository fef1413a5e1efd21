"""docs/architecture.md names every folder of the package, and nothing that does not exist."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import backfill

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
PATHS = [span for span in SPANS if re.fullmatch(r"(backfill|tests|alembic|benchmarks|docs)(/[\w.]*)+", span)]
NAMES = [span for span in SPANS if re.fullmatch(r"[a-z]\w*(\.\w+)+", span) and not span.startswith("192.")]
IN_THE_WHEEL = {"backfill/chain/"}


def exists(name: str) -> bool:
    """Whether *name*, from the package on, is a module or something in one."""
    words, target = name.removeprefix("backfill.").split("."), backfill
    for number, word in enumerate(words, start=1):
        if hasattr(target, "__path__") and any(
            module.name == word for module in pkgutil.iter_modules(target.__path__)
        ):
            target = importlib.import_module(".".join(["backfill", *words[:number]]))
        elif word in {*dir(target), *getattr(target, "__annotations__", {})}:
            target = getattr(target, word, None)
        else:
            return False
    return True


@pytest.mark.parametrize("path", PATHS)
def test_every_path_on_the_map_exists(path):
    assert path in IN_THE_WHEEL or (ROOT / path).exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_on_the_walks_exists(name):
    assert exists(name)


def test_every_folder_and_file_at_the_top_of_the_package_is_on_the_map():
    table = TEXT.partition("## The map")[2].partition("\n## ")[0]
    package = ROOT / "backfill"
    folders = {f"backfill/{path.parent.relative_to(package)}/" for path in package.glob("*/**/__init__.py")}
    files = {f"backfill/{path.name}" for path in package.glob("*.py") if not path.name.startswith("__")}
    mentioned = {"backfill/engine", "backfill/jobs", "backfill/verify"}  # in the sentences above the table
    assert folders | files == set(re.findall(r"`(backfill/[^`]+)`", table)) - IN_THE_WHEEL - mentioned


def test_the_walks_were_found():
    assert len(NAMES) > 50
    assert not exists("jobs.link.no_such_function")
    assert not exists("ledger.no_such_module")
