"""HTML: one file that stands alone; no network, no script, light and dark, fit to print."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from backfill.ledger.counts import CLASSES, UNCOVERING, Count
from backfill.ledger.coverage_record import Kind
from backfill.report import pictures
from backfill.report.document import Document

SHOWN = (*CLASSES, Count.NO_ADDRESS, Count.GEO_MISSING)
LEGEND = {
    Count.SETTLED: "settled: no address, by decision",
    Count.OWN_LINK_KEPT: "the application's own reading",
    Count.QUARANTINED: "waiting for a decision",
    Count.LINKED_TO_SENTINEL: "an address at the sentinel",
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
        shown=SHOWN,
        uncovering=UNCOVERING,
        legend=[(kind, LEGEND.get(count, count.words)) for count, kind in pictures.EVENT_PARTS.items()],
        events=[record for record in document.records if record.kind is Kind.EVENTS],
        addresses=next(record for record in document.records if record.kind is Kind.ADDRESSES),
        discards=[record for record in document.records if record.kind is Kind.DISCARD],
    )
