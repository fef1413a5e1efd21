"""Signature: what ties a signed report to its facts: an id, a checksum, and places to sign.

The checksum is over the report as JSON, without this section. It tells that a file was changed, not by whom: whoever
changes a file can compute it anew. So ``check`` compares the file with the ledger as well.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from backfill.report.document import Document, Entries, Entry, Section
from backfill.report.machine import plain

KEY = "signature"
TO_FILL_IN = "_" * 60


def signed(document: Document) -> Document:
    """*document* with its id and checksum, and a section in which to sign."""
    checksum = checksum_of(plain(document))
    made = str(document.data["made"])
    identity = f"{made[:19].translate(str.maketrans('', '', '-:'))}Z-{checksum[:12]}"
    section = Section(
        KEY,
        "Signature",
        (
            Entries(
                "This report",
                (
                    Entry("document id", identity),
                    Entry("SHA-256", checksum),
                    Entry(
                        "to check it",
                        "`backfill report --check FILE` compares the JSON form (`backfill report --format json`, made at the "
                        "same moment) with the ledger",
                    ),
                ),
            ),
            Entries(
                "To be filled in by hand",
                tuple(
                    Entry(what, TO_FILL_IN)
                    for what in ("responsible person", "function", "place and date", "signature")
                ),
            ),
        ),
    )
    return replace(
        document,
        sections=(*document.sections, section),
        data={**document.data, "document": {"id": identity, "sha256": checksum}},
    )


def checksum_of(content: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a report as plain data, whatever it says of itself."""
    bare = {name: value for name, value in content.items() if name != "document"}
    sections = bare.get("sections")
    if isinstance(sections, list):
        bare["sections"] = [one for one in sections if not (isinstance(one, dict) and one.get("key") == KEY)]
    # Once through JSON: a tuple and a list, an enum and its text are the same there.
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
