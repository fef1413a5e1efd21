"""Prefixes in use: which networks fdXX::/16 live in the data, so that none of them is taken for pseudonyms.

A whole look at every raw column, once per key id, before the first row of it is rewritten.
"""

from collections.abc import Iterable

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database.columns import has_column
from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.jobs.row_needs import printed
from backfill.raw_column import RawColumn

LIVING = sql.SQL("""
    select distinct substring(lower({text}) from 'fd([0-9a-f][0-9a-f]):')
      from {table} as event
     where event.{raw} is not null and {text} ~* 'fd[0-9a-f][0-9a-f]:'
""")


def living(engine: Engine, parts: Iterable[RawColumn]) -> set[int]:
    """The bytes after ``fd`` of all texts of those columns that look like a unique-local address, however decorated."""
    found: set[int] = set()
    for part in parts:
        raw = sql.Identifier(part.raw_column)
        text = printed(sql.Identifier("event", part.raw_column))
        with engine.begin() as connection:
            if has_column(connection, part, part.raw_column):
                statement = LIVING.format(text=text, table=table(part), raw=raw)
                found |= {int(byte, 16) for (byte,) in rows(connection, statement) if byte}
    return found
