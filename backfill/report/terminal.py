"""Terminal: a table at the width of a terminal. Columns wrap between words; where that is not enough, each row becomes
a list of names and values. Nothing is cut.

The colours repeat what the words say.
"""

import io
import re
from collections.abc import Sequence
from itertools import zip_longest

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from backfill import escaping
from backfill.report.document import Column, Table, Tone
from backfill.report.screen import Screen

GAPS = (2, 1)  # columns between two cells; the second where the first is too much
LEAST = (
    12  # columns that a text may be narrowed to, although a word of it is longer: it goes on in the next line
)
# Blanks at the end of a line, which a colour may be around.
_BLANKS = re.compile(r"(\x1b\[[0-9;]+m)? +(\x1b\[0m)?$")
# The rule below the titles, and nothing else.
RULED = Box("    \n    \n -  \n    \n    \n    \n    \n    ", ascii=True)

STYLES = {
    Tone.PLAIN: "",
    Tone.ALARM: "bold red",
    Tone.DONE: "green",
    Tone.NEXT: "bold cyan",
    Tone.LATER: "dim",
    Tone.BLOCKED: "yellow",
}


def table(shown: Table, written: Sequence[Sequence[str]], screen: Screen) -> str:
    """*shown*, whose cells are *written* so, for a screen that has a width."""
    width = screen.width or 0
    titles = [escaping.name(column.title) for column in shown.columns]
    columns = list(zip_longest(*written, fillvalue="")) if written else [()] * len(titles)
    fitting = (
        (gap, widths)
        for gap in GAPS
        if (widths := _widths(shown.columns, titles, columns, width - gap * (len(titles) - 1)))
    )
    gap, widths = next(fitting, (0, None))
    if widths is None:
        return _listed(shown, titles, written, screen)
    narrowed = any(
        cell_len(text) > room for texts, room in zip(columns, widths, strict=True) for text in texts
    )
    grid = Grid(box=RULED, show_edge=False, padding=(0, gap - 1, 0, 0), pad_edge=False, leading=int(narrowed))
    for column, title, room in zip(shown.columns, titles, widths, strict=True):
        grid.add_column(
            Text(title),
            justify="right" if column.number else "left",
            width=room,
            overflow="fold",
            vertical="top",
        )
    for row, texts in zip(shown.rows, written, strict=True):
        grid.add_row(*(Text(text, STYLES[cell.tone]) for cell, text in zip(row, texts, strict=True)))
    return _drawn(grid, screen)


def styled(text: str, tone: Tone, screen: Screen) -> str:
    """*text*, which is wrapped already, in the colour of *tone*."""
    if not screen.colour or not STYLES[tone]:
        return text
    return "\n".join(_drawn(Text(line, STYLES[tone]), screen) for line in text.split("\n"))


def _widths(
    columns: Sequence[Column], titles: Sequence[str], texts: Sequence[Sequence[str]], room: int
) -> list[int] | None:
    """Of each column: as wide as it would like to be, less what is taken from the widest; ``None``: too many."""
    least, widths = [], []
    for column, title, cells in zip(columns, titles, texts, strict=True):
        wide = max(map(cell_len, cells), default=0)
        word = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
        least.append(max(_longest(title), wide if column.number else min(word, max(LEAST, room // 4)), 1))
        widths.append(max(wide, cell_len(title), 1))
    if sum(least) > room:
        return None
    while sum(widths) > room:
        widest = max((at for at in range(len(widths)) if widths[at] > least[at]), key=lambda at: widths[at])
        widths[widest] -= 1
    return widths


def _longest(title: str) -> int:
    return max(map(cell_len, title.split()), default=0)


def _listed(shown: Table, titles: Sequence[str], written: Sequence[Sequence[str]], screen: Screen) -> str:
    """Each row as its first cell, and below it name and value of the others."""
    width = screen.width or 0
    label = min(max(map(cell_len, titles[1:]), default=0), width // 2)
    parts = []
    for row, texts in zip(shown.rows, written, strict=True):
        head = Grid.grid()
        head.add_column(width=width, overflow="fold")
        head.add_row(Text(f"{titles[0]}: {texts[0]}" if titles[0] else texts[0], STYLES[row[0].tone]))
        grid = Grid.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=1)
        grid.add_column(width=label + 1, overflow="fold")
        grid.add_column(width=width - label - 5, overflow="fold")
        for title, cell, text in zip(titles[1:], row[1:], texts[1:], strict=True):
            if text:
                grid.add_row("", Text(f"{title}:" if title else ""), Text(text, STYLES[cell.tone]))
        parts.append("\n".join(_drawn(one, screen) for one in (head, grid) if one.row_count))
    return "\n\n".join(parts) if parts else "  ".join(titles)


def _drawn(shown: Grid | Text, screen: Screen) -> str:
    console = Console(
        file=io.StringIO(),
        width=screen.width,
        force_terminal=screen.colour,
        color_system="standard" if screen.colour else None,
        no_color=not screen.colour,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )
    with console.capture() as capture:
        console.print(shown, soft_wrap=isinstance(shown, Text))
    lines = capture.get().rstrip("\n").split("\n")
    return "\n".join(_BLANKS.sub(lambda end: "" if end[1] else end[2] or "", line) for line in lines)
