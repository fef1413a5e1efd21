"""Text: a document on a terminal."""

from collections.abc import Sequence

from backfill import escaping
from backfill.report.document import Block, Cell, Document, Entries, Note, Picture, Section, Table

NOTHING = "–"  # where a value does not apply


def render(document: Document) -> str:
    """The whole document."""
    parts = [escaping.name(document.title), escaping.name(document.verdict)]
    return "\n\n".join([*parts, *map(section, document.sections)])


def section(shown: Section) -> str:
    """One section."""
    title = escaping.name(shown.title)
    return f"{title}\n{'-' * len(title)}\n{blocks(shown.blocks)}"


def blocks(shown: Sequence[Block]) -> str:
    """Those blocks, one under the other."""
    return "\n\n".join(_block(block) for block in shown if not isinstance(block, Picture))


def _block(block: Note | Table | Entries) -> str:
    if isinstance(block, Note):
        return escaping.name(block.text)
    if isinstance(block, Entries):
        lines = escaping.listed(
            [f"{entry.label}: {entry.text}" for entry in block.entries], as_markdown=False
        )
        return f"{escaping.name(block.caption)}:\n{lines}"
    return f"{escaping.name(block.caption)}:\n{aligned(block, 'simple')}"


def aligned(table: Table, style: str) -> str:
    """A table of plain text, in a *style* of tabulate."""
    body = [[written(cell) for cell in row] for row in table.rows]
    return escaping.table(
        body,
        [column.title for column in table.columns],
        tablefmt=style,
        disable_numparse=True,
        colalign=["right" if column.number else "left" for column in table.columns],
    )


def written(cell: Cell) -> str:
    """A value in words and figures."""
    if cell.value is None:
        return NOTHING
    return f"{cell.value:,}" if isinstance(cell.value, int) else cell.value
