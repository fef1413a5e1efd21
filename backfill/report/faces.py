"""Faces of a document for a terminal, for Markdown and for machines; the fourth is ``html.py``."""

from collections.abc import Sequence
from typing import Any

from backfill import safe
from backfill.gates.survey import Stage
from backfill.report import coverage
from backfill.report.document import Document

SHOWN_COUNTRIES = 10


def as_text(document: Document, *, markdown: bool = False) -> str:
    """The document as Markdown, or for a terminal."""
    style = "github" if markdown else "simple"

    def listed(lines: Sequence[str]) -> str:
        return safe.listed(lines, as_markdown=markdown)

    def section(title: str, body: str) -> str:
        return f"## {title}\n\n{body}" if markdown else f"{title}\n{'-' * len(title)}\n{body}"

    parts = [
        f"# Raw addresses: report of {document.made:%Y-%m-%d %H:%M} UTC\n\n**{safe.sentence(document.verdict)}**"
        if markdown
        else safe.name(document.verdict),
        section("Coverage", coverage.tables_as_text(document.records, style)),
        section(
            "What is left, and who must act", listed([f"{one.who}: {one.what}" for one in document.left])
        ),
        section(
            "Gates",
            safe.table(_stages(document.stages), ["change", "state", "what does not hold"], tablefmt=style),
        ),
    ]
    if document.run:
        run = document.run
        pace = f", {run.written / run.seconds:,.0f} rows a second" if run.seconds else ""
        body = [
            [phase.name, f"{phase.start:.1f}", f"{phase.end - phase.start:.1f}", phase.rows]
            for phase in run.phases
        ]
        parts.append(
            section(
                f"Run {run.number}",
                f"{run.status}, begun {run.began:%Y-%m-%d %H:%M:%S}, {run.seconds:,.1f} s of work, "
                f"{run.written:,} rows linked or located{pace}\n\n"
                + safe.table(
                    body, ["phase", "began after (s)", "took (s)", "rows written"], tablefmt=style, intfmt=","
                ),
            )
        )
    geography = document.geography
    if geography.countries:
        body = [[name, number] for name, number in geography.countries[:SHOWN_COUNTRIES]]
        looked = f"{geography.located:,} of {geography.looked_at:,} events looked at have geo"
        looked += " (a sample)" if geography.sampled else ""
        parts.append(
            section(
                "Where the events come from",
                looked + "\n\n" + safe.table(body, ["country", "events"], tablefmt=style, intfmt=","),
            )
        )
    if document.decisions:
        body = [
            [f"{one.at:%Y-%m-%d %H:%M}", one.shown, one.table, one.count, one.by]
            for one in document.decisions
        ]
        parts.append(
            section(
                "Decisions on record",
                safe.table(body, ["when", "what", "table", "count", "by"], tablefmt=style, intfmt=","),
            )
        )
    if document.quarantine:
        body = [[one.table, one.reason, one.decided, one.waiting] for one in document.quarantine]
        parts.append(
            section(
                "Quarantine of the runs",
                safe.table(body, ["table", "reason", "decided about", "waiting"], tablefmt=style, intfmt=","),
            )
        )
    parts.append(
        section("Provenance", listed([f"{name}: {what}" for name, what in document.provenance.items()]))
    )
    return "\n\n".join(parts)


def _stages(stages: Sequence[Stage]) -> list[list[str]]:
    return [[stage.change, stage.state, ", ".join(answer.name for answer in stage.unmet)] for stage in stages]


def as_json(document: Document) -> dict[str, Any]:
    """The document as plain data; ``docs/report.schema.json`` describes it."""
    run = document.run
    return {
        **coverage.as_json(document.records),
        "verdict": document.verdict,
        "made": document.made.isoformat(),
        "left": [vars(one) for one in document.left],
        "gates": [
            {
                "change": stage.change,
                "revision": stage.revision,
                "state": stage.state,
                "conditions": [vars(answer) for answer in stage.answers],
            }
            for stage in document.stages
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
            "looked_at": document.geography.looked_at,
            "located": document.geography.located,
            "sampled": document.geography.sampled,
            "countries": [
                {"country": name, "events": number} for name, number in document.geography.countries
            ],
            "places": [vars(place) for place in document.geography.places],
        },
        "decisions": [
            {
                "kind": one.kind,
                "what": one.what,
                "table": one.table,
                "count": one.count,
                "by": one.by,
                "at": one.at.isoformat(),
            }
            for one in document.decisions
        ],
        "quarantine": [vars(one) for one in document.quarantine],
        "provenance": dict(document.provenance),
    }
