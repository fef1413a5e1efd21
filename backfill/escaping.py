"""Pure: text made safe for its medium. Names and keys come from other people's databases.

A terminal obeys escape sequences, and bidirectional controls reorder what is read; a line break ends
a table's row, and in Markdown ``|``, backticks and tags mean something. Whoever shows a text takes
the function of its medium from here. (JSON escapes by itself; HTML by Jinja's autoescape.)
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

# C0, DEL and C1 (an 8-bit terminal obeys those as it does ESC), line and paragraph separators, the
# bidirectional controls, invisible marks, and lone surrogates (bytes that are no UTF-8, from the environment).
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f"
_IN_TEXT = re.compile(f"[{_CONTROL}]")  # leaves tab and line feed
_IN_NAME = re.compile(f"[\t\n{_CONTROL}]")
# A message is one line, and of two spaces it keeps one. A backtick would end the code that a command is shown as.
_IN_WORD = re.compile(f"(?<= ) |[`\t\n{_CONTROL}]")
_MARKDOWN = re.compile(r"([\\`*\[\]<>|~&#])")


def text(shown: str) -> str:
    """*shown*, of one line or many, for a terminal or a log."""
    return _IN_TEXT.sub(_escape, shown)


def name(shown: object) -> str:
    """A name, key or other value on one line of a terminal or a log."""
    return _IN_NAME.sub(_escape, str(shown))


def counted(number: int, one: str, many: str) -> str:
    """*number* with the words that go with it: "1 row waits", "2 rows wait"."""
    return f"{number:,} {one if number == 1 else many}"


def markdown(shown: object) -> str:
    """A value in a table's cell, a list or a sentence of Markdown."""
    return _MARKDOWN.sub(r"\\\1", name(shown))


def sentence(shown: object, *, cell: bool = False) -> str:
    """A sentence of ours in Markdown: commands between backticks stay code, the rest is a value."""
    parts = name(shown).split("`")
    if len(parts) % 2 == 0:  # a lone backtick is no code
        return markdown(shown)
    for at, part in enumerate(parts):
        code = part.replace("|", "\\|") if cell else part
        parts[at] = f"`{code}`" if at % 2 else markdown(part)
    return "".join(parts)


def _cell(shown: object) -> str:
    return sentence(shown, cell=True)


def listed(lines: Iterable[str], *, as_markdown: bool) -> str:
    """Sentences as a list, in Markdown or for a terminal: each on its line."""
    return "\n".join(f"- {(sentence if as_markdown else name)(line)}" for line in lines)


def toml(shown: str) -> str:
    """A basic string of TOML, quotes included."""
    escaped = shown.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _IN_NAME.sub(lambda match: f"\\U{ord(match[0]):08X}", escaped) + '"'


def comment(shown: object) -> str:
    """A value in a comment of TOML: on its line."""
    return name(shown)


def command(*words: object) -> str:
    """A command line that can be pasted into a shell, whatever its words hold."""
    return " ".join(map(word, words))


def word(given: object) -> str:
    """One word of a command line."""
    shown = str(given)
    # A terminal obeys what is pasted as well: a word with controls in it is written by $'…', as Bash, Zsh and Ksh read it.
    if not _IN_WORD.search(shown):
        return shlex.quote(shown)
    plain = shown.replace("\\", "\\\\").replace("'", "\\'")
    return (
        "$'"
        + _IN_WORD.sub(
            lambda match: "".join(f"\\{byte:03o}" for byte in match[0].encode(errors="surrogateescape")),
            plain,
        )
        + "'"
    )


def table(
    body: Iterable[Sequence[Any]], headers: Sequence[str] = (), *, tablefmt: str = "simple", **options: Any
) -> str:
    """``tabulate`` with cells that keep to their row; *tablefmt* ``github`` is Markdown."""
    from tabulate import tabulate  # here: an application imports this module where nothing else is installed

    made = _cell if tablefmt == "github" else name
    cells = [[made(cell) if isinstance(cell, str) else cell for cell in row] for row in body]
    return tabulate(cells, list(map(made, headers)), tablefmt=tablefmt, **options)


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    if 0xDC80 <= number <= 0xDCFF:  # a byte that was no UTF-8
        number -= 0xDC00
    if match[0] in "\t\n\r":
        return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}[match[0]]
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )


def unfiltered(stream: TextIO) -> TextIO:
    """The stream beneath one that makes all text safe, for what draws by escape sequences of our own (bars,
    colours); names in it are made safe before."""
    beneath: TextIO = getattr(stream, "unfiltered", stream)
    return beneath
