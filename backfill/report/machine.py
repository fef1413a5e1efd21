"""Machine: the facts as plain data, and the JSON face: that data, and the document as people read it.

``docs/report.schema.json`` describes it.
"""

import json
from typing import Any

from backfill import __version__
from backfill.report import ages, coverage
from backfill.report.document import Block, Document, Entries, Note, Table
from backfill.report.facts import Decision, Facts


def render(document: Document) -> str:
    """The document as JSON."""
    return json.dumps(plain(document), indent=2)


def plain(document: Document) -> dict[str, Any]:
    """The document as plain data."""
    sections = [
        {"key": section.key, "title": section.title, "blocks": [_block(block) for block in section.blocks]}
        for section in document.sections
    ]
    return {**document.data, "title": document.title, "verdict": document.verdict, "sections": sections}


def _block(block: Block) -> dict[str, Any]:
    if isinstance(block, Note):
        return {"kind": block.kind, "text": block.text}
    if isinstance(block, Entries):
        return {
            "kind": block.kind,
            "caption": block.caption,
            "entries": [vars(entry) for entry in block.entries],
        }
    if isinstance(block, Table):
        return {
            "kind": block.kind,
            "caption": block.caption,
            "columns": [column.title for column in block.columns],
            "rows": [[cell.value for cell in row] for row in block.rows],
        }
    return {"kind": block.kind, "alt": block.alt}


def as_data(facts: Facts) -> dict[str, Any]:
    """The facts, by stable names."""
    run, geography = facts.run, facts.geography
    return {
        **coverage.as_json(facts.records),
        "command": "report",
        "tool": f"backfill {__version__}",
        "made": facts.made.isoformat(),
        "database": facts.database,
        "ok": True,
        "exit_code": 0,
        "next": list(_following(facts)),
        # Which records of the ledger these are.
        "recorded": [
            {
                "job": record.job,
                "verification": record.evidence.verification,
                "finished": record.finished.isoformat() if record.finished else None,
            }
            for record in facts.records
        ],
        "ages": ages.as_dict(facts.standing) if facts.standing.jobs else None,
        "left": [vars(one) for one in facts.left],
        "gates": [
            {
                "change": stage.change,
                "revision": stage.revision,
                "state": stage.state,
                "conditions": [vars(answer) for answer in stage.answers],
                "lost": stage.lost or None,
                "standing": stage.standing,
            }
            for stage in facts.stages
        ],
        "run": None
        if run is None
        else {
            "number": run.number,
            "status": run.status,
            "began": run.began.isoformat(),
            "ended": run.ended.isoformat() if run.ended else None,
            "jobs": list(run.jobs),
            "seconds": run.seconds,
            "written": run.written,
            "phases": [vars(phase) for phase in run.phases],
        },
        "geography": {
            "looked_at": geography.looked_at,
            "located": geography.located,
            "sampled": geography.sampled,
            "countries": [{"country": name, "events": number} for name, number in geography.countries],
            "places": [vars(place) for place in geography.places],
        },
        "decisions": [decision_as_data(one) for one in facts.decisions],
        "quarantine": [vars(one) for one in facts.quarantine],
        "provenance": dict(facts.provenance),
    }


def _following(facts: Facts) -> tuple[str, ...]:
    if found := ages.following(facts.standing):
        return found
    if facts.dropped and facts.erased:
        return ()
    if facts.dropped:
        return ("backfill erase", "backfill prove")
    return ("backfill gates",) if facts.covered else ("backfill quarantine list", "backfill verify")


def decision_as_data(decision: Decision) -> dict[str, Any]:
    """A decision, by stable names."""
    return {
        "kind": decision.kind,
        "what": decision.what,
        "table": decision.table,
        "count": decision.count,
        "by": decision.by,
        "at": decision.at.isoformat(),
    }
