"""Asks whether a vulnerability is known of what `make demo` and `make test` install.

pip-audit calls a package that it could not ask about "skipped", says "No known vulnerabilities found" and
exits 0. So its answers are counted here: what was not asked about is not clean.

Exit 0: all were asked about, and nothing is known. 1: something is. 2: not all could be asked about.
"""

import json
import re
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "requirements" / "dev.txt"
TOOL = ROOT / "requirements" / "audit.txt"
PLACE = ROOT / ".cache" / "audit"
SERVICES = ("pypi", "osv")
CLEAN, KNOWN, NOT_ASKED = 0, 1, 2


def pinned(text: str) -> set[str]:
    """Names of the pinned packages."""
    return {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def judged(answer: Mapping[str, Any], names: Iterable[str]) -> tuple[int, list[str]]:
    """Exit code and lines for pip-audit's JSON *answer* about *names*."""
    asked, lines = set(), []
    for package in answer.get("dependencies", ()):
        name = str(package["name"]).lower().replace("_", "-")
        if "vulns" not in package:
            continue
        asked.add(name)
        for found in package["vulns"]:
            fixed = ", ".join(found.get("fix_versions", ())) or "no version yet"
            lines.append(f"{name} {package.get('version')}: {found['id']}, fixed in {fixed}")
    if lines:
        return KNOWN, lines
    left = sorted(set(names) - asked)
    if left:
        shown = ", ".join(left[:5]) + (", …" if len(left) > 5 else "")
        return NOT_ASKED, [f"{len(left)} of {len(set(names))} packages could not be asked about ({shown})."]
    return CLEAN, [f"Nothing is known of {len(asked)} packages."]


def ask(service: str) -> Mapping[str, Any]:
    """What pip-audit says when it asks *service*; nothing where it cannot."""
    command = [
        *(str(PLACE / "bin" / "pip-audit"), "--requirement", str(PINS), "--require-hashes", "--disable-pip"),
        *("--vulnerability-service", service, "--format", "json", "--progress-spinner", "off"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {}
    return found


def main() -> int:
    """The tool's own environment, then each service until one has answered about everything."""
    if not (PLACE / "bin" / "pip-audit").exists():
        venv.create(PLACE, with_pip=True, clear=True)
        install = [
            str(PLACE / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        if subprocess.run([*install, "--require-hashes", "-r", str(TOOL)], check=False).returncode:
            print("NOT AUDITED: pip-audit could not be installed.", file=sys.stderr)
            return NOT_ASKED
    names = pinned(PINS.read_text(encoding="utf-8"))
    for service in SERVICES:
        code, lines = judged(ask(service), names)
        print(f"{service}:", *lines, sep="\n  ")
        if code != NOT_ASKED:
            return code
    print(
        "NOT AUDITED: no service answered about every package. That is no sign that nothing is known; run it "
        "where pypi.org/pypi/NAME/VERSION/json or api.osv.dev can be reached.",
        file=sys.stderr,
    )
    return NOT_ASKED


if __name__ == "__main__":
    sys.exit(main())
