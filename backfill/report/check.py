"""Check: a report in JSON against the ledger that it was made from."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from backfill.database.server_identity import database_identity
from backfill.errors import InputUnreadable, NoRun
from backfill.files import read_text
from backfill.ledger import coverage, runs
from backfill.ledger.coverage_record import as_json
from backfill.plan import Plan
from backfill.report.coverage import SCHEMA_VERSION
from backfill.report.facts import Decision
from backfill.report.machine import decision_as_data
from backfill.report.signature import checksum_of

UNCHECKED = (
    "Not compared: the words of the verdict and of the sections, what is left, how old raw values are, the gates, and the places of the events."
    " Only the checksum covers them, which whoever changes a file can compute anew."
)


@dataclass(frozen=True)
class Answer:
    """One thing that was compared."""

    what: str
    holds: bool
    found: str


def read(path: Path) -> dict[str, Any]:
    """The report in that file. Raises ``InputUnreadable``."""
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputUnreadable(
            path=path, problem=f"not JSON{where}; a report for --check is in JSON"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("document"), dict):
        raise InputUnreadable(
            path=path, problem="it is no report with a checksum; `backfill report --format json` writes one"
        )
    if content.get("version") != SCHEMA_VERSION:
        raise InputUnreadable(path=path, problem="it is a report of another version of Backfill")
    return content


def compare(
    connection: Connection, plan: Plan, content: Mapping[str, Any], decisions: list[Decision]
) -> Iterator[Answer]:
    """What of the report is as the ledger has it. *decisions*: all that are on record, in order."""
    yield _unchanged(content)
    identity = database_identity(connection)
    said = str(_inside(content, "provenance").get("database", ""))
    yield Answer(
        "database",
        said.endswith(f"({identity})"),
        "this one" if said.endswith(f"({identity})") else "the report is about another database",
    )
    yield from _records(connection, plan, content)
    yield _covered(content)
    yield _decisions(content, decisions)
    yield from _run(connection, content)


def _unchanged(content: Mapping[str, Any]) -> Answer:
    given = str(content["document"].get("sha256", ""))
    holds = checksum_of(content) == given
    return Answer(
        "checksum", holds, "as the report says" if holds else "the file was changed after it was written"
    )


def _records(connection: Connection, plan: Plan, content: Mapping[str, Any]) -> Iterator[Answer]:
    tables = {str(one.get("job")): one for one in content.get("tables", []) if isinstance(one, dict)}
    noted = {str(one.get("job")): one for one in content.get("recorded", []) if isinstance(one, dict)}
    for job, table in tables.items():
        label = plan.label(job)
        entered = noted.get(job, {})
        record = coverage.entered_at(connection, job, str(entered.get("finished", "")), label)
        if record is None:
            yield Answer(f"coverage of {label}", False, "no such record is in the ledger")
            continue
        same = json.loads(json.dumps(as_json(record[0]))) == table
        genuine = record[1]
        yield Answer(
            f"coverage of {label}",
            same and genuine,
            "as recorded"
            if same and genuine
            else "the ledger's record was changed after it was entered"
            if same
            else "the ledger's record says something else",
        )


def _covered(content: Mapping[str, Any]) -> Answer:
    """What the report says of all tables, against what it says of each; those are compared with the ledger."""
    tables = [one for one in content.get("tables", []) if isinstance(one, dict)]
    holds = bool(tables) and content.get("covered") is all(one.get("covered") is True for one in tables)
    return Answer("covered", holds, "as its tables" if holds else "it is not what its tables say")


def _decisions(content: Mapping[str, Any], recorded: list[Decision]) -> Answer:
    said = content.get("decisions", [])
    known = json.loads(json.dumps([decision_as_data(one) for one in recorded]))
    holds = isinstance(said, list) and known[: len(said)] == said
    later = f"; {len(known) - len(said)} more since" if holds and len(known) > len(said) else ""
    return Answer(
        "decisions",
        holds,
        f"all {len(said)} are on record{later}" if holds else "they are not those that are on record",
    )


def _run(connection: Connection, content: Mapping[str, Any]) -> Iterator[Answer]:
    said = content.get("run")
    if not isinstance(said, dict) or not said.get("ended"):
        return
    try:
        run = runs.get(connection, int(said["number"]))
    except (NoRun, TypeError, ValueError):
        yield Answer("run", False, "no such run is in the ledger")
        return
    ended = run.finished.isoformat() if run.finished else None
    holds = (run.status.value, run.created.isoformat(), ended) == (
        said.get("status"),
        said.get("began"),
        said["ended"],
    )
    yield Answer(f"run {run.id}", holds, "as recorded" if holds else "the ledger says something else of it")


def _inside(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}
