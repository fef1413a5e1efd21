"""Where the strings of named members stand in a line of JSON; every other byte of the line stays as it is.

The line is read as Latin-1, in which a character is a byte, so that bytes that are no UTF-8 do no harm.
"""

import json
import re
from collections.abc import Iterator, Sequence

_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False)
_SPACE = re.compile(r"[ \t\r\n]*")
MAX_DEPTH = 32  # objects on a member's path

Span = tuple[int, int, str | None]  # of the whole value; its text, None where it is no string


class NotJson(ValueError):
    """The line is no JSON object."""


def member_spans(line: str, members: Sequence[str]) -> list[Span]:
    """The values of *members* in *line*, in order. A dotted name is a path, or the name of a member as it is.

    A member that is twice in its object is found twice. Raises ``NotJson``.
    """
    try:
        start = _SPACE.match(line).end()  # type: ignore[union-attr]  # it matches anything
        spans: list[Span] = []
        end = _object(line, start, [_spelled(member) for member in members], spans, 0)
        if _SPACE.match(line, end).end() != len(line):  # type: ignore[union-attr]
            raise NotJson
    except (ValueError, IndexError, RecursionError) as error:
        raise NotJson from error
    return sorted(set(spans))


def _spelled(member: str) -> str:
    """As the bytes of the name look in Latin-1."""
    return member.encode().decode("latin-1")


def _object(line: str, at: int, wanted: Sequence[str], spans: list[Span], depth: int) -> int:
    """The end of the object that begins *at*."""
    if line[at] != "{" or depth > MAX_DEPTH:
        raise NotJson
    at = _skip(line, at + 1)
    if line[at] == "}":
        return at + 1
    while True:
        if line[at] != '"':
            raise NotJson
        name, at = _DECODER.raw_decode(line, at)
        at = _skip(line, at)
        if line[at] != ":":
            raise NotJson
        at = _value(line, _skip(line, at + 1), list(_rests(name, wanted)), spans, depth)
        at = _skip(line, at)
        if line[at] == "}":
            return at + 1
        if line[at] != ",":
            raise NotJson
        at = _skip(line, at + 1)


def _rests(name: str, wanted: Sequence[str]) -> Iterator[str]:
    """What is left of each path after *name*; nothing where it ends here."""
    # \u00e9 in a name gives one character, é as UTF-8 two.
    names = {name, name.encode("utf-8", "surrogatepass").decode("latin-1")}
    for path in wanted:
        for spelled in names:
            if path == spelled:
                yield ""
            elif path.startswith(spelled + "."):
                yield path[len(spelled) + 1 :]


def _value(line: str, at: int, rests: Sequence[str], spans: list[Span], depth: int) -> int:
    deeper = [rest for rest in rests if rest]
    if deeper and line[at] == "{":
        end = _object(line, at, deeper, spans, depth + 1)
        value = None
    else:
        value, end = _DECODER.raw_decode(line, at)
        value = value if line[at] == '"' else None
    if "" in rests:
        spans.append((at, end, value))
    return end


def _skip(line: str, at: int) -> int:
    return at if line[at] not in " \t\r\n" else _SPACE.match(line, at).end()  # type: ignore[union-attr]
