"""Pure: lines that are wider than a terminal, wrapped between words. A command can still be copied as one.

A terminal wraps by itself, in the middle of a word, and a list loses its indent. A command between backticks is kept
on one line where it fits, and ends in a backslash where it goes on. What has no place to break, such as a long path,
is left to the terminal, from which it is copied whole.
"""

import re

from rich.cells import cell_len

# Spaces, and the mark of an entry of a list: what follows stands below its text.
_LEAD = re.compile(r"\s*(?:[-+$] )?")
_WORD = re.compile(r"(?:[^\s`]*`[^`]*`)+[^\s`]*|\S+")
_CODE = re.compile(r"([^`]*`)([^`]*)(`.*)")
_WORD_OF_COMMAND = re.compile(r"(?:'[^']*'|\"[^\"]*\"|\\.|[^\s'\"\\]|['\"\\])+")
GOES_ON = " \\"
SHELL = "$ "  # a line that is a command as a whole


def wrapped(line: str, width: int) -> list[str]:
    """*line* in lines of at most *width* columns, as far as its words allow."""
    if cell_len(line) <= width:
        return [line]
    lead = _LEAD.match(line)
    first = lead[0] if lead else ""
    below = " " * min(len(first), width // 2)
    if first.endswith(SHELL):
        return _command(line[len(first) :], width, first, below)
    lines, now = [], first
    for word in _WORD.findall(line[len(first) :]):
        room = width - cell_len(now) - (now not in (first, below))
        if cell_len(word) <= room:
            now += word if now in (first, below) else f" {word}"
            continue
        if now not in (first, below):
            lines.append(now)
            now = below
        *whole, last = _broken(word, width, now, below)
        lines += whole
        now = last
    return [*lines, now]


def text(shown: str, width: int) -> str:
    """Each line of *shown*, wrapped."""
    return "\n".join(part for line in shown.split("\n") for part in wrapped(line, width))


def _broken(word: str, width: int, first: str, below: str) -> list[str]:
    """A word that begins a line; one with a command in it may be more than one line."""
    code = _CODE.fullmatch(word)
    if cell_len(first) + cell_len(word) <= width or code is None:
        return [first + word]
    return _command(code[2], width, first + code[1], below, code[3])


def _command(command: str, width: int, first: str, below: str, after: str = "") -> list[str]:
    """A command over lines of which each but the last ends in a backslash."""
    lines, now = [], first
    words = _WORD_OF_COMMAND.findall(command)
    begun = False
    for number, word in enumerate(words, 1):
        end = cell_len(after) if number == len(words) else len(GOES_ON)
        if begun and cell_len(now) + 1 + cell_len(word) + end > width:
            lines.append(now + GOES_ON)
            now, begun = f"{below}  ", False
        now += f" {word}" if begun else word
        begun = True
    return [*lines, now + after]
