"""Document: what a report says, in sections. A face only chooses how it looks: it adds nothing and drops nothing.

A picture is the exception: only a face that can draw has it, and it repeats the tables of its section.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

from backfill.report.pictures import Drawing


class Tone(StrEnum):
    """How a value is to be taken, for a face that has colours."""

    PLAIN = "plain"
    ALARM = "alarm"
    DONE = "done"
    NEXT = "next"
    LATER = "later"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Cell:
    """A value of a table; none: it does not apply."""

    value: str | int | None
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Column:
    """A column of a table. *bars*: a face that can draw may show the numbers as bars as well."""

    title: str
    number: bool = False
    bars: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under a caption, where there is one. The first column names the row."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Entry:
    """A label and a sentence."""

    label: str
    text: str


@dataclass(frozen=True)
class Entries:
    """Sentences, each with its label, under a caption. Commands stand between backticks."""

    kind: ClassVar[str] = "entries"
    caption: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Note:
    """A sentence of its own."""

    kind: ClassVar[str] = "note"
    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Picture:
    """What the tables of the section say, drawn. *alt*: what it shows, in words."""

    kind: ClassVar[str] = "picture"
    alt: str
    drawing: Drawing


Block: TypeAlias = Note | Table | Entries | Picture


def table(
    titles: Sequence[str],
    body: Iterable[Sequence[object]],
    *,
    caption: str = "",
    right: Sequence[str] = (),
) -> Table:
    """A table of plain values. Columns that hold whole numbers, and those titled *right*, are numbers."""
    rows = [tuple(map(_cell, row)) for row in body]
    columns = tuple(
        Column(
            title,
            number=title in right
            or (
                any(isinstance(row[at].value, int) for row in rows)
                and not any(isinstance(row[at].value, str) for row in rows)
            ),
        )
        for at, title in enumerate(titles)
    )
    return Table(caption, columns, tuple(rows))


def _cell(value: object) -> Cell:
    if isinstance(value, Cell):
        return value
    return Cell(value if value is None or isinstance(value, int) else str(value))


@dataclass(frozen=True)
class Section:
    """A part of a document. *key* is stable."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """One report."""

    title: str
    verdict: str  # the one sentence on top
    good: bool  # whether it is good news
    sections: tuple[Section, ...]
    data: Mapping[str, Any] = field(default_factory=dict)  # the facts behind it, for machines
