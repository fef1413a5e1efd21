"""Markdown: a document for a ticket or a pull request."""

from backfill import escaping
from backfill.report.document import Block, Document, Entries, Note, Picture, Section
from backfill.report.text import aligned


def render(document: Document) -> str:
    """The whole document."""
    head = f"# {escaping.markdown(document.title)}\n\n**{escaping.sentence(document.verdict)}**"
    return "\n\n".join([head, *map(_section, document.sections)])


def _section(section: Section) -> str:
    shown = [_block(block) for block in section.blocks if not isinstance(block, Picture)]
    return "\n\n".join([f"## {escaping.markdown(section.title)}", *shown])


def _block(block: Block) -> str:
    if isinstance(block, Note):
        return escaping.sentence(block.text)
    if isinstance(block, Entries):
        lines = "\n".join(
            f"- {escaping.markdown(e.label)}: {escaping.sentence(e.text)}" for e in block.entries
        )
        return f"{escaping.sentence(block.caption)}:\n\n{lines}"
    if isinstance(block, Picture):
        return ""
    return f"{escaping.sentence(block.caption)}:\n\n{aligned(block, 'github')}"
