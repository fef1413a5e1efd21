"""A small set of tests with the oldest libraries that pyproject.toml allows, in a virtual environment of its own.

Each ``name>=version`` of its dependencies becomes ``name==version``, so that a bound is never older than what was
tried. What the tests need besides has the version of constraints.txt. Words on the command line replace the tests.
"""

import os
import re
import subprocess
import sys
import tomllib
import venv

from tests.operator import BIN, ROOT

PLACE = ROOT / ".cache" / "oldest"
# The whole way in processes of their own; the chain of another application, with each driver; every report.
TESTS = [
    "tests/unit/test_geo.py",  # the models of geoip2
    *(f"tests/integration/test_{name}.py" for name in ("tour", "other_chain", "report")),
    "tests/integration/test_drivers.py::test_the_example_goes_its_whole_way_through_the_applications_driver_and_settings",
]
NEEDED = ("asyncpg", "execnet", "greenlet", "hypothesis", "jsonschema", "mmdb_writer", "psutil", "psycopg", "psycopg-binary", "pytest", "pytest-xdist", "setuptools")  # fmt: skip
OPTIONS = "--strict-markers --strict-config -ra"  # pytest-alembic is not installed


def constraints() -> dict[str, str]:
    """``name → version``: of everything that is installed by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups() for line in project["dependencies"])
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(found.groups() for line in lines if (found := re.match(r"([\w.-]+)==([^\s;]+)", line)))
    return {name: pinned[name] for name in NEEDED} | oldest


def install() -> None:
    """Make the environment, unless it is there and as it should be."""
    wanted = "".join(f"{name}=={version}\n" for name, version in sorted(constraints().items()))
    mark = PLACE / "constraints.txt"
    if mark.exists() and mark.read_text() == wanted:
        return
    print(f"Installing the oldest libraries into {PLACE.relative_to(ROOT)}", flush=True)
    venv.create(PLACE, with_pip=False, clear=True)
    file = PLACE / "wanted.txt"
    file.write_text(wanted)
    uv("setuptools", "--constraint", file)
    uv("--no-build-isolation", "--editable", f"{ROOT}[demo]", "--requirement", file)
    file.rename(mark)


def uv(*words: object) -> None:
    """``uv pip install`` into that environment: pip takes three times as long for the same."""
    install = [BIN / "uv", "pip", "install", "--quiet", "--no-config", "--compile-bytecode"]
    trusted = {"SSL_CERT_FILE": os.environ["PIP_CERT"]} if "PIP_CERT" in os.environ else {}
    subprocess.run(
        [*install, "--python", PLACE / "bin" / "python", *words],
        env=trusted | os.environ,
        check=True,
    )


def main() -> int:
    install()
    words = sys.argv[1:] or TESTS
    pytest = [PLACE / "bin" / "python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope"]
    command = [*pytest, "-o", f"addopts={OPTIONS}", *words]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
