"""Document: what a report says, in sections. A face only chooses how it looks: it adds nothing and drops nothing.

A picture is the exception: only a face that can draw has it, and it repeats the tables of its section.
"""

from collections.abc import Mapping
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
    """Rows of cells under a caption. The first column names the row."""

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


@dataclass(frozen=True)
class Picture:
    """What the tables of the section say, drawn. *alt*: what it shows, in words."""

    kind: ClassVar[str] = "picture"
    alt: str
    drawing: Drawing


Block: TypeAlias = Note | Table | Entries | Picture


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
