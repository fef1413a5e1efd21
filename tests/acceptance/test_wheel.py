"""The wheel is the whole product: what is in it, and that it does all of its work where no checkout is."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

from backfill import __version__
from tests.npm_postgres import extract
from tests.operator import BIN, ROOT

BUILT_FROM = ("LICENSE", "README.md", "alembic", "backfill", "pyproject.toml", "setup.py")
INFO = f"backfill-{__version__}.dist-info"
LEFT_OUT = shutil.ignore_patterns("__pycache__")
INSTALLED = "import pathlib, alembic, backfill; print(*(pathlib.Path(m.__file__).parent for m in (alembic, backfill)))"
STILL_THERE = (
    "import alembic.command, alembic.context, alembic.op; from alembic.script import ScriptDirectory"
)


def files(tree: str) -> set[str]:
    """The files below a folder of the checkout, as they are called there."""
    found = (path for path in (ROOT / tree).rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(ROOT)) for path in found}


def without_settings() -> dict[str, str]:
    """The environment of somebody who has no checkout."""
    ours = ("BACKFILL_", "PG", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def built(kind: str, tree: Path) -> Path:
    """What the build backend makes of *tree*, with nothing fetched."""
    call = f"import setuptools.build_meta as backend; print(backend.build_{kind}('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", call],
        cwd=tree,
        env=without_settings(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tree / "dist" / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from a source distribution, so that this one is whole as well."""
    tree = tmp_path_factory.mktemp("tree")
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=LEFT_OUT)
        else:
            shutil.copy(source, tree)
    extract(built("sdist", tree), tree / "unpacked")
    (unpacked,) = (tree / "unpacked").iterdir()
    stale = unpacked / "build" / "lib" / "backfill" / "chain" / "versions" / "0006_renamed_since.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    return built("wheel", unpacked)


# What is in it


def test_nothing_lies_at_the_top_but_the_package_and_what_describes_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"backfill", INFO}
    assert not [name for name in names if name.endswith(".pyc")]


def test_it_has_every_module_and_every_file_beside_them(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(INFO)}
    chain = {name for name in names if name.startswith("backfill/chain/")}
    assert names - chain == files("backfill")
    assert {name.replace("backfill/chain", "alembic") for name in chain} == files("alembic")
    assert {"py", "sql", "j2", "typed"} == {name.rpartition(".")[2] for name in names - chain}
    assert "backfill/chain/__init__.py" not in names


def test_without_its_dependencies_it_serves_the_live_application(wheel: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from backfill import web; print(web.__file__, *web.__all__)"
    words = [sys.executable, "-S", "-c", code, str(wheel)]
    done = subprocess.run(words, env=without_settings(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{wheel}/backfill/web/__init__.py")
    assert "WsgiMiddleware" in done.stdout


def test_it_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = Parser().parsestr(archive.read(f"{INFO}/METADATA").decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert archive.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata.get_all("Classifier") == project["classifiers"]
    assert metadata.get_payload().startswith("# Backfill")
    needed = [line.partition(";")[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(needed) == sorted(project["dependencies"])


# What it does


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that no checkout is near, and that the embedded server's user can enter."""
    with tempfile.TemporaryDirectory(prefix="backfill-wheel-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.slow  # needs the network, or what uv keeps of it
def test_installed_into_an_empty_environment_it_goes_the_whole_way_and_leaves_alembic_alone(
    wheel: Path, place: Path
) -> None:
    bin_ = place / "environment" / "bin"
    own = without_settings() | {"BACKFILL_HOME": str(place / "home")}
    own.setdefault("SSL_CERT_FILE", os.environ.get("PIP_CERT", ""))

    def run(*words: object, expect: int = 0) -> str:
        done = subprocess.run(
            list(map(str, words)),
            cwd=place,
            env={name: value for name, value in own.items() if value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == expect, done.stdout[-3000:]
        return done.stdout

    def uv(*words: object) -> None:
        run(BIN / "uv", "pip", *words, "--quiet", "--no-config", "--python", bin_ / "python")

    run(sys.executable, "-m", "venv", "--without-pip", place / "environment")
    uv("install", "--require-hashes", "--requirement", ROOT / "requirements" / "demo.txt")
    uv("install", "--no-deps", "--no-index", wheel)
    uv("check")
    library, package = map(Path, run(bin_ / "python", "-c", INSTALLED).split())
    assert library.parent == package.parent
    assert library.is_relative_to(place)
    assert not (library / "versions").exists()

    try:
        said = run(bin_ / "backfill", "demo", "--events", 5000, "--tour")
        assert "The raw addresses are gone from tables and files." in said
        assert not re.findall(r"`(?:make|alembic) [^`]+`|^\$ (?:make|alembic) .*", said, re.MULTILINE)
        assert "alembic" not in run(bin_ / "backfill", "gates")
        assert "0002_journals" in run(bin_ / "backfill", "migrate", "0002_journals", "--sql")
    finally:
        run(bin_ / "backfill", "server", "stop", "--delete")

    uv("uninstall", "backfill")
    assert not (bin_ / "backfill").exists()
    assert not list(package.rglob("*.py"))
    run(bin_ / "python", "-c", STILL_THERE)
