"""Coverage for people and for machines: terminal table, JSON, Markdown, from the same records."""

from collections.abc import Sequence
from typing import Any

from backfill import safe
from backfill.ledger.counts import CLASSES, Count
from backfill.ledger.coverage_record import CoverageRecord, Kind, Method
from backfill.ledger.coverage_record import as_json as record_as_json
from backfill.verify.confirmation import claim, form_only

SCHEMA_VERSION = 1  # of the JSON; a key may be added, none may change its meaning

EVENT_COLUMNS = (Count.ROWS, Count.NO_ADDRESS, *CLASSES, Count.GEO_MISSING)


def verdict(records: Sequence[CoverageRecord]) -> str:
    """The one sentence on top."""
    open_tables = [record.table for record in records if not record.covered]
    if open_tables:
        return f"Not covered: {', '.join(open_tables)}."
    if any(record.method is not Method.FULL for record in records):
        return "Nothing uncovered was found in a sample, which opens no gate: a full verification proves it."
    before = [record.table for record in records if record.proved]
    links = "every row with a raw address is linked to the right one"
    if before:
        links += f" (in {', '.join(before)}: as proved before the raw column went)"
    if form_only(records):
        return (
            f"Covered: {links}; every hash has the right form, and no address is left to recompute it from."
        )
    return f"Covered: {links}, and {claim(records)}."


def _events_table(records: Sequence[CoverageRecord]) -> tuple[list[str], list[list[Any]]]:
    header = ["table", *(count.words for count in EVENT_COLUMNS), ""]
    body = []
    for record in records:
        if record.kind is Kind.EVENTS:
            state = "covered" if record.covered else "NOT COVERED"
            if record.proved:
                state = f"proved on {record.proved:%Y-%m-%d}"
            body.append([record.table, *(record.counts.get(count, "") for count in EVENT_COLUMNS), state])
    return header, body


def _rest_table(records: Sequence[CoverageRecord]) -> tuple[list[str], list[list[Any]]]:
    body = []
    for record in records:
        if record.kind is not Kind.EVENTS:
            found = ", ".join(f"{number:,} {count.words}" for count, number in record.counts.items())
            state = "covered" if record.covered else "NOT COVERED"
            if record.kind is Kind.DISCARD:
                state = "to be dropped" if Count.RAW in record.counts else "dropped"
            body.append([record.table, found, state])
    return ["table", "found", ""], body


def tables_as_text(records: Sequence[CoverageRecord], style: str) -> str:
    """The counts, and the quarantine by reason."""
    parts = [
        safe.table(body, header, tablefmt=style, intfmt=",")
        for header, body in (_events_table(records), _rest_table(records))
    ]
    reasons = [
        [record.table, reason, number] for record in records for reason, number in record.quarantined.items()
    ]
    if reasons:
        parts.append(safe.table(reasons, ["quarantine", "reason", "rows"], tablefmt=style, intfmt=","))
    return "\n\n".join(parts)


def as_text(records: Sequence[CoverageRecord], *, markdown: bool = False) -> str:
    """Tables, quarantine by reason, and what remains to be done; as Markdown, or for a terminal."""
    style = "github" if markdown else "simple"
    parts = [f"# Coverage\n\n**{safe.sentence(verdict(records))}**" if markdown else ""]
    parts.append(tables_as_text(records, style))
    todo = [f"{record.table}: {reason}" for record in records for reason in record.reasons]
    if todo:
        parts.append(
            ("## What remains\n\n" if markdown else "What remains:\n")
            + safe.listed(todo, as_markdown=markdown)
        )
    notes = [f"{record.table}: {note}" for record in records for note in record.notes]
    if notes:
        parts.append(
            ("## Notes\n\n" if markdown else "To know:\n") + safe.listed(notes, as_markdown=markdown)
        )
    if not markdown:
        parts.append(verdict(records))
    return "\n\n".join(part for part in parts if part)


def as_json(records: Sequence[CoverageRecord]) -> dict[str, Any]:
    """The same as plain data. Row keys of wrong links are in it, values never."""
    return {
        "version": SCHEMA_VERSION,
        "covered": all(record.covered for record in records),
        "verdict": verdict(records),
        "tables": [record_as_json(record) for record in records],
    }
