"""Formats: the forms in which a document is rendered. A new one is a file and a line in ``FACES``."""

from collections.abc import Callable
from dataclasses import dataclass

from backfill.report import html, machine, markdown, text
from backfill.report.document import Document


@dataclass(frozen=True)
class Face:
    """A form: its name for ``--format``, the suffixes of its files, and how it is made."""

    name: str
    suffixes: tuple[str, ...]
    render: Callable[[Document], str]


FACES = (
    Face("text", (".txt",), text.render),
    Face("json", (".json",), machine.render),
    Face("markdown", (".md",), markdown.render),
    Face("html", (".html", ".htm"), html.render),
)

BY_NAME = {face.name: face for face in FACES}
BY_SUFFIX = {suffix: face for face in FACES for suffix in face.suffixes}
