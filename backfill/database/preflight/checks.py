"""Checks: all topics in one list, and what a command does with their findings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from backfill import escaping
from backfill.database.preflight import (
    ages,
    collisions,
    columns,
    constraints,
    database,
    dependents,
    into_column,
    key_values,
    keys,
    overloads,
    place_column,
    places,
    privileges,
    publication,
    raw_expressions,
    raw_keys,
    raw_readers,
    raw_type,
    redefined,
    relation,
    texts,
    triggers,
)
from backfill.database.preflight.finding import RAW_COPIED, Finding, Severity
from backfill.database.preflight.redefined import Rewritten
from backfill.database.preflight.target import Purpose, Target, open_target
from backfill.errors import SchemaUnfit
from backfill.plan import Plan
from backfill.raw_column import Table

Check = Callable[[Target], Iterator[Finding]]

OF_A_TABLE: tuple[tuple[str, Check], ...] = (
    ("columns", columns.check),
    ("keys", keys.check),
    ("triggers and rules", triggers.check),
    ("constraints", constraints.check),
    ("publications", publication.check),
    ("what a drop takes along", dependents.check),
    ("privileges", privileges.check),
    ("type of values that are rewritten in place", raw_type.check),
    ("unique and foreign keys of these", raw_keys.check),
    ("the column into which hashes go", into_column.check),
    ("who reads these", raw_readers.check),
    ("the column into which their places go", place_column.check),
)
LOOKED_AT = ", ".join(
    (
        "kind of relation",
        *(topic for topic, _ in OF_A_TABLE),
        "what expressions make of a sample of results",
        "names and keys that the server cannot send",
        "addresses among keys",
        "collisions of links",
        "definitions by which rows were rewritten before",
        "database",
        places.LOOKED_AT,
    )
)


@dataclass(frozen=True)
class Report:
    """Findings by what they mean for the command."""

    blocking: tuple[Finding, ...]
    unaccepted: tuple[Finding, ...]
    accepted: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    unknown: tuple[str, ...]  # accepted, and nothing like it was found
    tables: int

    @property
    def fit(self) -> bool:
        """Whether nothing is in the way."""
        return not self.blocking and not self.unaccepted


def inspect(
    connection: Connection,
    plan: Plan,
    parts: Sequence[Table],
    ledger_schema: str,
    purpose: Purpose,
    accept: Sequence[str] = (),
    recorded: Sequence[str] = (),
    rewritten: Sequence[Rewritten] = (),
) -> Report:
    """All findings about these tables and the database they lie in.

    *accept*: names that the operator gave now; *recorded*: those that count from before. *rewritten*: what the ledger
    has of rows that were rewritten by other definitions than those of now.
    """
    found = [*database.check(connection, ledger_schema, purpose)]
    for part in parts:
        found += _of_table(connection, plan, part, ledger_schema, purpose)
    found += redefined.check(parts, rewritten, purpose)
    if purpose is not Purpose.READ:
        found += overloads.check(connection, parts)
    # Rows are read only where nothing keeps us from reading them all.
    blocked = any(finding.severity is Severity.BLOCKS for finding in found)
    if purpose is not Purpose.READ and not blocked:
        found += places.check(connection, plan, parts)
    unique = list(dict.fromkeys(found))
    names = {*accept, *plan.accept, *recorded}
    changes = [finding for finding in unique if finding.severity is Severity.CHANGES]
    return Report(
        blocking=tuple(finding for finding in unique if finding.severity is Severity.BLOCKS),
        unaccepted=tuple(finding for finding in changes if finding.name not in names),
        accepted=tuple(finding for finding in changes if finding.name in names),
        notes=tuple(finding for finding in unique if finding.severity is Severity.NOTE),
        unknown=tuple(
            name
            for name in dict.fromkeys([*accept, *plan.accept])
            if name not in {finding.name for finding in changes}
            and not (name in plan.accept and name.startswith(f"{RAW_COPIED}:"))
        ),
        tables=len(parts),
    )


def _of_table(
    connection: Connection, plan: Plan, part: Table, ledger_schema: str, purpose: Purpose
) -> list[Finding]:
    unreadable = list(texts.names(connection, part))
    if unreadable:
        return unreadable
    target = open_target(connection, plan, ledger_schema, purpose, part)
    if target is None:
        return [
            relation.NO_TABLE(
                f"{part.schema_}.{part.table}",
                f"Table {part.name} does not exist in this database.",
                "Check BACKFILL_DATABASE_URL, or the plan.",
            )
        ]
    found = list(relation.check(target))
    if any(finding.code == relation.NOT_A_TABLE.code for finding in found):
        return found
    found += [finding for _, check in OF_A_TABLE for finding in check(target)]
    if not raw_expressions.NEEDS & {finding.code for finding in found}:
        found += raw_expressions.check(target)
    if not any(finding.severity is Severity.BLOCKS for finding in found):
        found += texts.keys(target)  # reads rows, where the key is a text
        found += key_values.check(target)  # likewise
    if not any(finding.severity is Severity.BLOCKS for finding in found):
        found += collisions.check(target)  # reads rows, where there is a key that they could meet in
        found += ages.check(target)  # reads rows, where an index does not lead to the newest
    return found


def require(report: Report) -> Report:
    """The report, where nothing is in the way. Raises ``SchemaUnfit`` with the first finding and the number of others."""
    in_the_way = [*report.blocking, *report.unaccepted]
    if in_the_way:
        first = in_the_way[0]
        text = first.text
        if first.severity is Severity.CHANGES:
            text += f" To accept it: `backfill run --accept {escaping.word(first.name)}`, or `accept` in the plan."
        others = f" ({len(in_the_way) - 1} more: `backfill plan` lists them.)" if len(in_the_way) > 1 else ""
        raise SchemaUnfit(problem=text + others)
    return report
