"""Pure: a JSON document's texts by path. Keys that are data, not names, are not repeated: they may be addresses."""

import json
import re
from collections.abc import Iterator
from typing import Any

# A name is a short word; numbers, hashes, identifiers and whatever has dots or colons stand as "*".
_NAME = re.compile(r"(?!.*\d{3})[A-Za-z_][A-Za-z0-9_-]{0,39}")
KEYS = "{keys}"  # where a key itself looks like an address


def texts(document: str) -> Iterator[tuple[str, str]]:
    """Path and text of every leaf and key; a document that cannot be read is one text without a path."""
    try:
        content = json.loads(document)
    except (ValueError, RecursionError):
        yield "", document
        return
    yield from _walk(content)


def _walk(content: Any) -> Iterator[tuple[str, str]]:
    waiting: list[tuple[str, Any]] = [("$", content)]
    while waiting:  # a stack of our own: documents may be nested deeper than Python recurses
        path, here = waiting.pop()
        if isinstance(here, dict):
            for key, value in here.items():
                yield f"{path}.{KEYS}", key
                waiting.append((f"{path}.{key if _NAME.fullmatch(key) else '*'}", value))
        elif isinstance(here, list):
            waiting += [(f"{path}[*]", value) for value in here]
        elif isinstance(here, str):
            yield path, here
