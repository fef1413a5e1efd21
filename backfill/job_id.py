"""Job id: schema, table and column as one text that no other column has; and names made of it.

It ties everything on record to one raw column, and names whatever we create for it. PostgreSQL cuts
names at 63 bytes, so a name carries a digest of the identity besides what a reader recognises.
"""

import hashlib
import re
from typing import NewType

JobId = NewType("JobId", str)  # a type of its own, so that a table's name is not taken for one

LONGEST = 63  # bytes of a name
DIGEST = 12  # hex digits: 48 bits

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")


def identity(*names: str) -> str:
    """``schema.table.column``; a name with odd characters in double quotes, so that dots cannot be mistaken."""
    return ".".join(name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"' for name in names)


def helper_name(prefix: str, readable: str, whole: str) -> str:
    """``prefix_readable_digest``: as much of *readable* as 63 bytes hold, and a digest of the identity *whole*."""
    return _cut(f"{prefix}_{readable}", "_" + _digest(whole))


def name_beside(table: str, suffix: str) -> str:
    """*table* and *suffix*, for a table in the same schema; with a digest where that would be cut."""
    name = table + suffix
    if len(name.encode()) <= LONGEST:
        return name
    return _cut(table, f"_{_digest(table)}{suffix}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]


def _cut(text: str, end: str) -> str:
    """*text* and *end* in 63 bytes; between two characters, not in one."""
    room = LONGEST - len(end.encode())
    return text.encode()[:room].decode(errors="ignore") + end
