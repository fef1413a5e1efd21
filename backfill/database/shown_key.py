"""Shown key: a row's key, as it leaves the transaction in which it names the row: for messages, answers and the ledger.

A key that is an address, or holds what looks like one, is not shown until the plan accepts that by name. It still
names its row in statements.
"""

import json
import re
from collections.abc import Callable, Sequence

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.decodable import ASCII
from backfill.database.quoting import regclass
from backfill.database.row_key import row_key
from backfill.database.unique_keys import DERIVED, NUMBER
from backfill.raw_column import RawColumn

HIDDEN = "(a key that looks like an address)"
AMONG_KEYS = (
    "addresses-among-keys"  # a finding of preflight; in a plan's ``accept``, with the column behind it
)
BY_TYPE = frozenset({"inet", "cidr"})  # are addresses, whatever they look like
NONE_IN = ASCII | {"macaddr8", "bytea"}  # hold none that could be read, but for ``BY_TYPE``

# One meaning for the server, which looks at bytes, and for ``re``.
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = "[0-9A-Fa-f]{1,4}"
_V4 = rf"(?<![0-9.]){_BYTE}(\.{_BYTE}){{3}}(?![0-9]|\.[0-9])"
_V6 = "|".join((f"({_GROUP}:){{7}}{_GROUP}", f"({_GROUP}:){{1,6}}(:{_GROUP}){{1,6}}", f"({_GROUP}:){{2,7}}:"))
USUAL = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|::|(:[0-9A-Fa-f]{1,4}){7}"
ADDRESS = rf"{_V4}|(?<![0-9A-Za-z_:.])({_V6})(?![0-9A-Za-z_:])"
_USUAL, _ADDRESS = re.compile(USUAL), re.compile(ADDRESS)

# Domains looked through.
TYPES = """
    with recursive {derived}, step (name, number, oid) as (
        select a.attname::text, a.attnum::int, a.atttypid from pg_attribute as a
         where a.attrelid = {table} and a.attname = any (%s)
        union all
        select step.name, step.number, t.typbasetype from step join pg_type as t on t.oid = step.oid and t.typtype = 'd'
    )
    select name, t.typname::text, exists (select from derived where derived.number = step.number)
      from step join pg_type as t on t.oid = step.oid and t.typtype <> 'd'
"""


def looks_like_address(text: str) -> bool:
    """Whether *text* holds what looks like an address."""
    return bool(_USUAL.search(text) and _ADDRESS.search(text))


def shown_keys(
    connection: Connection, part: RawColumn, columns: Sequence[str] | None = None
) -> Callable[[str], str]:
    """How the keys of that table are shown: as they are, or as ``HIDDEN``. *columns*: of the key; None: those it has now."""
    if columns is None:
        columns = row_key(connection, part).columns
    wanted = [
        name for name in columns if f"{AMONG_KEYS}:{part.schema_}.{part.table}.{name}" not in part.accepted
    ]
    table = sql.SQL("({}::oid)").format(regclass(part))
    raw = sql.SQL(NUMBER).format(table=table, name=sql.Literal(part.raw_column))
    statement = sql.SQL(TYPES).format(derived=sql.SQL(DERIVED).format(table=table, raw=raw), table=table)
    asked = set()
    for name, kind, is_derived in rows(connection, statement, (wanted,)) if wanted else ():
        if is_derived or kind in BY_TYPE:
            return lambda _: HIDDEN
        if kind not in NONE_IN:
            asked.add(list(columns).index(name))

    def shows(key: str) -> str:
        values = _values(key, len(columns))
        looked_at = values if len(values) != len(columns) else [values[at] for at in asked]
        return HIDDEN if any(map(looks_like_address, looked_at)) else key

    return shows if asked else str


def _values(key: str, number: int) -> list[str]:
    """The texts of a key of that many columns; the whole of it where it is no array of so many."""
    if number == 1:
        return [key]
    try:
        found = json.loads(key)
    except ValueError:  # another key, or bytes that were escaped
        return [key]
    return list(map(str, found)) if isinstance(found, list) and len(found) == number else [key]
