"""The section "What is left, and who must act": the newest proof of erasure, as the ledger has it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from backfill import safe

TITLE = "What is left, and who must act"

VERDICTS = {
    "gone": "Gone: no look at this depth found a raw address.",
    "found": "NOT gone: raw addresses, or what names them, were found.",
    "unproved": "Unproved: some places could not be looked at.",
}


def of(row: Row[Any] | None) -> Mapping[str, Any] | None:
    """A row of the ledger's erasure checks as plain data."""
    names = ("verdict", "depth", "findings", "external_copies", "finished")
    return None if row is None else {name: row._mapping[name] for name in names}


def as_json(proof: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The section for machines."""
    return None if proof is None else {**proof, "finished": proof["finished"].isoformat()}


def as_text(proof: Mapping[str, Any] | None, *, markdown: bool = False) -> str:
    """The section; *proof* has verdict, depth, findings, external copies and finished, as in the ledger."""
    head = f"## {TITLE}\n\n" if markdown else f"{TITLE}\n"
    if proof is None:
        return head + "Nobody has looked yet: `backfill erase`, then `backfill prove`."
    style = "github" if markdown else "simple"
    moment = f" ({proof['finished']:%Y-%m-%d %H:%M})" if proof.get("finished") else ""
    parts = [f"{head}{VERDICTS[proof['verdict']]} Depth reached: {proof['depth']}{moment}."]
    open_ = [
        [finding["where"], finding["state"], finding["what"], finding["act"]]
        for finding in proof["findings"]
        if finding["state"] != "gone"
    ]
    if open_:
        parts.append(safe.table(open_, ["place", "", "what", "what to do"], tablefmt=style))
    parts.append("Outside the reach of any command here:")
    parts.append(_lines(proof["external_copies"], style))
    return "\n\n".join(parts)


def _lines(external_copies: Sequence[Mapping[str, str]], style: str) -> str:
    body = [[line["name"], line["state"], line["who"], line["until"]] for line in external_copies]
    return safe.table(body, ["copy", "state", "who must act", "until"], tablefmt=style, disable_numparse=True)
