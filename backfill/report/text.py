"""Text: a document in a file, in a pipe or on a terminal.

In a pipe a row, a note and an entry are a line each, whatever is in it; on a terminal they keep to its width.
"""

from collections.abc import Iterable, Sequence

from backfill import escaping
from backfill.report.document import Block, Cell, Document, Entries, Note, Picture, Section, Table, Tone
from backfill.report.screen import PAGE, Screen

NOTHING = "–"  # where a value does not apply


def render(document: Document, screen: Screen = PAGE) -> str:
    """The whole document."""
    tone = Tone.DONE if document.good else Tone.ALARM
    head = [_line(document.title, screen), _toned(document.verdict, tone, screen)]
    return "\n\n".join([*head, body(document, screen)])


def body(document: Document, screen: Screen = PAGE) -> str:
    """Its sections."""
    return "\n\n".join(section(one, screen) for one in document.sections)


def section(shown: Section, screen: Screen = PAGE) -> str:
    """One section."""
    title = escaping.name(shown.title)
    rule = "-" * min(len(title), screen.width or len(title))
    return f"{_line(shown.title, screen)}\n{rule}\n{blocks(shown.blocks, screen)}"


def blocks(shown: Sequence[Block], screen: Screen = PAGE) -> str:
    """Those blocks, one under the other."""
    return "\n\n".join(_block(block, screen) for block in shown if not isinstance(block, Picture))


def _block(block: Note | Table | Entries, screen: Screen) -> str:
    if isinstance(block, Note):
        return _toned(block.text, block.tone, screen)
    if isinstance(block, Entries):
        lines = escaping.listed(
            [f"{entry.label}: {entry.text}" for entry in block.entries], as_markdown=False
        )
        return f"{_line(block.caption, screen)}:\n{_wrapped(lines, screen)}"
    made = table(block, screen)
    return f"{_line(block.caption, screen)}:\n{made}" if block.caption else made


def lines(shown: Iterable[str], screen: Screen = PAGE) -> str:
    """Each on its line."""
    return "\n".join(_line(line, screen) for line in shown)


def table(shown: Table, screen: Screen = PAGE) -> str:
    """A table without its caption."""
    if screen.width is None:
        return aligned(shown, "simple")
    from backfill.report import terminal  # rich: a tenth of a second that a pipe does not pay

    body = [[escaping.name(written(cell)) for cell in row] for row in shown.rows]
    return terminal.table(shown, body, screen)


def aligned(table: Table, style: str) -> str:
    """A table of plain text, in a *style* of tabulate."""
    body = [[written(cell) for cell in row] for row in table.rows]
    return escaping.table(
        body,
        [column.title for column in table.columns],
        tablefmt=style,
        disable_numparse=True,
        colalign=["right" if column.number else "left" for column in table.columns] if body else None,
    )


def written(cell: Cell) -> str:
    """A value in words and figures."""
    if cell.value is None:
        return NOTHING
    return f"{cell.value:,}" if isinstance(cell.value, int) else cell.value


def _line(shown: str, screen: Screen) -> str:
    return _wrapped(escaping.name(shown), screen)


def _wrapped(shown: str, screen: Screen) -> str:
    if screen.width is None:
        return shown
    from backfill.report import wrap

    return wrap.text(shown, screen.width)


def _toned(shown: str, tone: Tone, screen: Screen) -> str:
    line = _line(shown, screen)
    if not screen.colour:
        return line
    from backfill.report import terminal

    return terminal.styled(line, tone, screen)
