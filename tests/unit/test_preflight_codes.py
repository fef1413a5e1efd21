"""Each kind of finding has one code, a row in docs/preflight.md, and a test that meets it in a database."""

import importlib
import pkgutil
import re
from pathlib import Path

from backfill.database import preflight
from backfill.database.preflight.finding import Kind
from tests.integration import test_preflight_in_place, test_preflight_into
from tests.integration.test_preflight import SHOWN_ELSEWHERE, SITUATIONS

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "preflight.md").read_text(encoding="utf-8")


def kinds() -> dict[str, Kind]:
    modules = [
        importlib.import_module(f"{preflight.__name__}.{found.name}")
        for found in pkgutil.iter_modules(preflight.__path__)
    ]
    found = {
        id(value): value for module in modules for value in vars(module).values() if isinstance(value, Kind)
    }
    codes = [kind.code for kind in found.values()]
    assert len(codes) == len(set(codes)), "two kinds share a code"
    return {kind.code: kind for kind in found.values()}


def test_the_document_has_every_code_with_its_severity_and_no_other():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (blocks|will change|note) \|", DOCUMENT, re.MULTILINE))
    assert rows == {code: kind.severity.value for code, kind in kinds().items()}


def test_every_code_is_met_in_a_database():
    situations = (*SITUATIONS, *test_preflight_in_place.SITUATIONS, *test_preflight_into.SITUATIONS)
    met = {code for situation in situations for code in situation.codes} | set(SHOWN_ELSEWHERE)
    assert met == set(kinds())
