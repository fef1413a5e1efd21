"""The section "What is left, and who must act" of a check of erasure: what is not gone, and copies out of reach."""

from collections.abc import Mapping, Sequence
from typing import Any

from backfill.report.document import Block, Cell, Column, Note, Section, Table

VERDICTS = {
    "gone": "Gone: no look at this depth found a raw address.",
    "found": "NOT gone: raw addresses, or what names them, were found.",
    "unproved": "Unproved: some places could not be looked at.",
}


def verdict(check: Mapping[str, Any]) -> str:
    """The one sentence."""
    return f"{VERDICTS[check['verdict']]} Depth reached: {check['depth']}."


def section(check: Mapping[str, Any]) -> Section:
    """The section; *check* has verdict, depth, findings and external copies, as in the ledger."""
    open_ = [finding for finding in check["findings"] if finding["state"] != "gone"]
    blocks: list[Block] = [Note(verdict(check))]
    if open_:
        titles = {"where": "place", "state": "state", "what": "what", "act": "what to do"}
        blocks.append(_table("Not gone", titles, open_))
    if check["external_copies"]:
        titles = {"name": "copy", "state": "state", "who": "who must act", "until": "until"}
        blocks.append(_table("Outside the reach of any command here", titles, check["external_copies"]))
    return Section("left", "What is left, and who must act", tuple(blocks))


def _table(caption: str, titles: Mapping[str, str], lines: Sequence[Mapping[str, str]]) -> Table:
    return Table(
        caption,
        tuple(Column(title) for title in titles.values()),
        tuple(tuple(Cell(line[name]) for name in titles) for line in lines),
    )
