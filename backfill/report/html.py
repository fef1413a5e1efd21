"""HTML: one file that stands alone; no network, no script, light and dark, fit to print."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from backfill.report.document import Cell, Document, Table
from backfill.report.text import written


def render(document: Document) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("backfill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda number: f"{number:,}"
    environment.filters["written"] = written
    return environment.get_template("report.html.j2").render(document=document, width=width)


def width(table: Table, column: int, cell: Cell) -> float:
    """Percent of the longest bar of that column."""
    numbers = [row[column].value for row in table.rows]
    most = max((number for number in numbers if isinstance(number, int)), default=0)
    return 100 * cell.value / most if most and isinstance(cell.value, int) else 0.0
