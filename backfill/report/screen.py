"""Screen: what a text is shown on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Screen:
    """Its width in columns (none: a file or a pipe, where nothing is wrapped), and whether it has colours."""

    width: int | None = None
    colour: bool = False


PAGE = Screen()
