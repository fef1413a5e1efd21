"""The role for workers on other machines, made with the grants of docs/operations.md and no others."""

from collections.abc import Callable
from pathlib import Path

OPERATIONS = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
TABLES = ("user_events", "project_events", "file_events", "organization_events", "team_events")


def lines_of_the_document(beginning: str) -> list[str]:
    """What operations.md tells to type, from the line that begins so to the end of its block."""
    block = OPERATIONS[OPERATIONS.index(f"    {beginning}") :].split("\n\n")[0]
    return [line.removeprefix("    ") for line in block.splitlines()]


def make_worker(query: Callable[[str], object], role: str) -> None:
    """Make it as *role*; the rights of the application's tables for each of them."""
    for line in lines_of_the_document("create role backfill_worker"):
        for table in TABLES if "user_events" in line else ("user_events",):
            query(line.replace("backfill_worker", role).replace("user_events", table))
