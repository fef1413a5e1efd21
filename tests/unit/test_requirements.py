"""What make installs is pinned, hashed, licensed by name, and the same in every file that says so."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".ci"))
import audit  # noqa: E402
import licences  # noqa: E402

sys.path.pop(0)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REFRESH = "run `make requirements`"
PIN = re.compile(r"^([\w.-]+)==([\w.+!-]+)[^\n]*((?:\n    --hash=sha256:[0-9a-f]{64}[^\n]*)*)", re.MULTILINE)


def pins(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each pinned package of a file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return {
        licences.normal(package): (version, frozenset(re.findall(r"sha256:([0-9a-f]{64})", hashes)))
        for package, version, hashes in PIN.findall(text)
    }


DEMO, DEV, AUDIT = (pins(f"requirements/{name}.txt") for name in ("demo", "dev", "audit"))


@pytest.mark.parametrize("found", [DEMO, DEV, AUDIT], ids=["demo", "dev", "audit"])
def test_every_pin_has_hashes(found) -> None:
    assert len(found) > 20
    assert [name for name, (_, hashes) in found.items() if not hashes] == []


def test_the_hashed_versions_are_those_of_the_constraints() -> None:
    constrained = {name: version for name, (version, _) in pins("constraints.txt").items()}
    assert {name: version for name, (version, _) in DEV.items()} == constrained, REFRESH


def test_what_the_demo_installs_is_part_of_what_the_tests_install() -> None:
    assert {name: DEV[name] for name in DEMO} == DEMO


@pytest.mark.parametrize(("extras", "found"), [(("demo",), DEMO), (("demo", "dev"), DEV)])
def test_every_dependency_is_there(extras, found) -> None:
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        wanted += PROJECT["project"]["optional-dependencies"][extra]
    names = {licences.normal(re.split(r"[^\w.-]", one)[0]) for one in wanted}
    assert names - set(found) == set(), REFRESH


def test_what_builds_the_package_is_hashed_as_well() -> None:
    for one in PROJECT["build-system"]["requires"]:
        name, _, version = one.partition("==")
        assert DEMO[name][0] == version
        assert one in (ROOT / "requirements" / "build.in").read_text(encoding="utf-8").splitlines()


def test_make_installs_by_hash_or_fetches_nothing() -> None:
    lines = [
        line
        for path in (ROOT / "Makefile", *(ROOT / ".ci").glob("[a-z]*"))
        if path.is_file()
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\$\(PIP\) -|pip install --", line) and not line.startswith("PIP :=")
    ]
    assert len(lines) >= 5
    for line in lines:
        assert "--require-hashes" in line or "--no-index --no-deps --no-build-isolation" in line


def test_each_package_has_a_row_with_the_licence_that_it_names() -> None:
    rows = licences.rows()
    assert set(rows) == set(DEV), REFRESH
    for name, (version, _) in DEV.items():
        try:
            here = importlib.metadata.version(name) == version
        except importlib.metadata.PackageNotFoundError:
            continue  # another platform's, or Python's
        if here:
            assert rows[name] == licences.row(name, licences.licence(name) or ""), REFRESH
    assert "not looked at" not in "".join(rows.values())


def test_copyleft_is_named_above_the_table() -> None:
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8").partition(licences.HEAD)[0]
    copyleft = [name for name, row in licences.rows().items() if re.search(r"GPL|MPL|Mozilla|CC BY-SA", row)]
    assert len(copyleft) > 5
    assert [name for name in copyleft if name not in text] == []


ASKED = {"name": "one", "version": "1", "vulns": []}
KNOWN = {"name": "one", "version": "1", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "two", "skip_reason": "Dependency not found on PyPI and could not be audited: two (1)"}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ([ASKED, {**ASKED, "name": "two"}], 0, "Nothing is known of 2 packages"),
        ([KNOWN, SKIPPED], 1, "CVE-2026-1, fixed in 2"),
        ([ASKED, SKIPPED], 2, "1 of 2 packages could not be asked about (two)"),  # pip-audit: exit 0
        ([ASKED], 2, "two"),
        ([], 2, "2 of 2"),
    ],
)
def test_a_package_that_nobody_could_ask_about_is_not_clean(answer, code, said) -> None:
    found, lines = audit.judged({"dependencies": answer}, {"one", "two"})
    assert found == code
    assert said in " ".join(lines)
