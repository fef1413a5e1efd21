"""HTML: one file that stands alone; no network, no script, light and dark, fit to print."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from backfill.coverage.record import Kind
from backfill.report import pictures
from backfill.report.document import Document

STATES = {
    "right": "right",
    "settled": "settled",
    "unjudged": "unjudged",
    "unlinked": "unlinked",
    "wrong": "wrong",
    "misfiled": "misfiled",
    "rejected": "quarantined",
    "no address": "no address",
    "geo missing": "geo missing",
}


def as_html(document: Document) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("backfill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda number: f"{number:,}"
    return environment.get_template("report.html.j2").render(
        document=document,
        pictures=pictures,
        states=STATES,
        events=[record for record in document.records if record.kind is Kind.EVENTS],
        addresses=next(record for record in document.records if record.kind is Kind.ADDRESSES),
        discards=[record for record in document.records if record.kind is Kind.DISCARD],
    )
