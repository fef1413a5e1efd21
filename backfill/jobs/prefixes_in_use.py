"""Prefixes in use: which networks fdXX::/16 live in the data, so that none of them is taken for pseudonyms.

A whole look at every raw column, while no prefix of the key id is on record. One of those networks may be the prefix
under which a ledger that is lost made pseudonyms, with this salt: their tags say so.
"""

from collections.abc import Callable, Iterable, Set

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database.columns import has_column
from backfill.database.connection import rows
from backfill.database.decodable import decodable
from backfill.database.quoting import table
from backfill.hashing.pseudonym import Pseudonyms, prefix_text
from backfill.jobs.row_needs import printed
from backfill.raw_column import RawColumn

LIVING = sql.SQL("""
    select distinct substring(lower({text}) from 'fd([0-9a-f][0-9a-f]):')
      from {table} as event
     where event.{raw} is not null and {text} ~* 'fd[0-9a-f][0-9a-f]:'
""")

# As pseudonyms are written. So many are enough: hardly anything else is in a network that was drawn because nothing was.
SOME = sql.SQL("""
    select distinct {text} from {table} as event
     where event.{raw} is not null and {text} collate "C" >= {first} and {text} collate "C" < {after} and {decodable}
     limit 10000
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


def marked(
    engine: Engine, parts: Iterable[RawColumn], among: Set[int], pseudonyms: Callable[[int], Pseudonyms]
) -> set[int]:
    """Which bytes of *among* have values of those columns that are pseudonyms by their tag: *pseudonyms* of that byte says so."""
    found: set[int] = set()
    for part in parts:
        text = printed(sql.Identifier("event", part.raw_column))
        with engine.begin() as connection:
            if not has_column(connection, part, part.raw_column):
                continue
            for byte in sorted(among - found):
                start = prefix_text(byte)
                statement = SOME.format(
                    text=text,
                    table=table(part),
                    raw=sql.Identifier(part.raw_column),
                    first=sql.Literal(start),
                    after=sql.Literal(start.replace(":", ";")),
                    decodable=decodable(text),
                )
                ours = pseudonyms(byte)
                if any(ours.is_ours(value) for (value,) in rows(connection, statement)):
                    found.add(byte)
    return found
