"""Some tests on each Python that is here: the floor, the ceiling, and those between. ``make test-pythons``.

``PYTHONS`` names others (paths, or names on the PATH), separated by spaces. Words on the command line replace the
tests. What runs is installed by hash, as `make` installs it.
"""

import os
import shutil
import subprocess
import sys

from tests.operator import BIN, ROOT

PLACE = ROOT / ".cache" / "pythons"
NAMES = [f"python3.{minor}" for minor in range(11, 15)]
# Everything that needs no server, the whole way in processes of their own, and the wheel in an empty environment.
TESTS = ["tests/unit", "tests/integration/test_tour.py", "tests/acceptance/test_wheel.py"]
VERSION = "import sys; print('.'.join(map(str, sys.version_info[:3])))"


def found() -> dict[str, str]:
    """``version → program`` of each Python that starts; a name that stands for nothing here is left out."""
    asked = os.environ.get("PYTHONS", "").split()
    programs = {}
    for name in asked or NAMES:
        path = shutil.which(name)
        done = (
            subprocess.run([path, "-c", VERSION], capture_output=True, text=True, check=False)
            if path
            else None
        )
        if done and done.returncode == 0:
            programs[done.stdout.strip()] = str(path)
        elif asked:
            sys.exit(f"{name} does not start")
    return programs


def install(version: str, program: str) -> None:
    """An environment of that Python with what the tests need, and the checkout."""
    pins = ROOT / "requirements" / "dev.txt"
    mark = PLACE / version / "installed"
    if mark.exists() and mark.stat().st_mtime > pins.stat().st_mtime:
        return
    print(f"Installing into {(PLACE / version).relative_to(ROOT)}", flush=True)
    shutil.rmtree(PLACE / version, ignore_errors=True)
    subprocess.run([program, "-m", "venv", "--without-pip", PLACE / version], check=True)
    uv(version, "--require-hashes", "--requirement", pins)
    uv(version, "--no-index", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    mark.touch()


def uv(version: str, *words: object) -> None:
    """``uv pip install`` into the environment of that version."""
    trusted = {"SSL_CERT_FILE": os.environ["PIP_CERT"]} if "PIP_CERT" in os.environ else {}
    install = [
        BIN / "uv",
        "pip",
        "install",
        "--quiet",
        "--no-config",
        "--python",
        PLACE / version / "bin" / "python",
    ]
    subprocess.run([*install, *words], env=trusted | os.environ, check=True)


def main() -> int:
    ended = {}
    for version, program in found().items():
        install(version, program)
        print(f"Python {version}, {program}", flush=True)
        pytest = [PLACE / version / "bin" / "python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope"]
        command = [*pytest, "-m", "slow or not slow", *(sys.argv[1:] or TESTS)]
        ended[version] = subprocess.run(command, cwd=ROOT, check=False).returncode
    for version, code in ended.items():
        print(f"Python {version}: {'passed' if code == 0 else 'FAILED'}")
    return max(ended.values(), default=1)


if __name__ == "__main__":
    sys.exit(main())
