"""Reading: a range of a column's blocks, matched in the server; what matches comes here to be judged.

A short read-only transaction a range. The pattern is run once over every value; matching values are
counted, and only so many of them travel as are needed to classify the column. No value goes into a statement.
"""

import re
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill import addresses
from backfill.database.blocks import Range
from backfill.database.connection import rows
from backfill.database.decodable import bytes_of, decodable, legible
from backfill.scan.columns import Column, Reading
from backfill.scan.patterns import PREFILTER

WHOLE = 4 << 20  # bytes: the regex engine takes four for each character, and a gigabyte at most
PIECE = 1 << 18  # what a longer value is cut into, with an overlap
OVERLAP = 64
BYTES_BACK = 8 << 20  # characters that one range may send: documents of a megabyte do occur
EXCERPTS = 50  # matching places of a long value that are judged
BESIDE = 40  # characters of context before a matching place: the beginning of the longest IPv6 address

_ESCAPED = re.compile(
    r"\\(?:[0-7]{3}|\\)"
)  # what encode(…, 'escape') makes of other bytes and of a backslash

# One pass of the pattern: the hits are materialized, then counted and cut off.
ORDINARY = sql.SQL("""
    with hit as materialized (
        select {value} as value from {table} as t
         where {range} and t.{column} is not null and {size} <= {whole} and {value} ~ {pattern}),
    looked as (
        select count(t.{column}) as seen, count(*) filter (where {size} > {whole}) as long,
               {aside} as aside
          from {table} as t where {range})
    select looked.seen, looked.long, looked.aside, (select count(*) from hit), array(
        select value from (select value, sum(octet_length(value)) over (rows unbounded preceding) - octet_length(value) as upto
                             from (select {legible} as value from (select value from hit limit {budget}) as first_few
                                 ) as sent) as measured
         where upto < {bytes_back})
      from looked
""")

# Long values go piece by piece, as bytes: a piece of text cannot be cut off without counting characters.
# Whatever encoding, whatever rubbish: what is not printable comes out as \ooo.
LONG = sql.SQL("""
    select array(
        select beside.match[1]
          from generate_series(0, (length(long.bytes) - 1) / {piece}) as number
          cross join lateral (select encode(substring(long.bytes from number * {piece} + 1 for {piece} + {overlap}), 'escape') as text offset 0) as piece
          cross join lateral regexp_matches(piece.text, {around}, 'g') as beside (match)
         where piece.text ~ {pattern}
         limit {excerpts})
      from (select {bytes} as bytes from {table} as t
             where {range} and t.{column} is not null and {size} > {whole} offset 0) as long
""")


# Short texts only: a large value is neither unpacked nor a placeholder.
ASIDE = sql.SQL("""
    count(*) filter (where case when pg_column_size({0}) < 64
                                then case when {2} then lower(btrim({0}::text, e' \\t\\n\\r')) = any (array[{1}]) end end)
""")
NO_ADDRESS = ("", "localhost", *sorted(addresses.NO_ADDRESS))


@dataclass(frozen=True)
class Read:
    """What one range came to."""

    seen: int  # values that are not NULL
    matching: int
    values: list[str]  # some of the matching: whole values, or a long one's excerpts, joined
    aside: int = 0  # values that are empty or stand for none


def read_column(connection: Connection, column: Column, span: Range, budget: int) -> Read:
    """Read *column* in *span*; at most *budget* matching values come back."""
    name = sql.Identifier(column.name)
    names = {
        "table": column.identifier,
        "column": name,
        "range": span.holds("t"),
        "pattern": sql.Literal(PREFILTER),
        "around": sql.Literal(f"(.{{0,{BESIDE}}}(?:{PREFILTER.replace('(:', '(?::')}).{{0,{OVERLAP}}})"),
        "budget": sql.Literal(budget),
        "bytes_back": sql.Literal(BYTES_BACK),
        "whole": sql.Literal(WHOLE),
        "piece": sql.Literal(PIECE),
        "overlap": sql.Literal(OVERLAP),
        "excerpts": sql.Literal(EXCERPTS),
    }
    ref = sql.SQL("t.{}").format(name)
    data: sql.Composable
    match column.reading:
        case Reading.INET:
            return _addresses(connection, names, ref, budget)
        case Reading.BYTES:
            value, data = sql.SQL("encode({}, 'escape')").format(ref), ref
            size = sql.SQL("octet_length({})").format(ref)
        case _:
            value = sql.SQL("{}::text").format(ref)
            data = bytes_of(ref)
            # The stored size is known without unpacking the value; one of four megabytes takes more
            # than some kilobytes however well it is compressed.
            size = sql.SQL(
                "(case when pg_column_size({0}) < 2000 then 0 else octet_length({0}::text) end)"
            ).format(ref)
    words = sql.SQL(", ").join(map(sql.Literal, NO_ADDRESS))
    aside = ASIDE.format(ref, words, decodable(ref)) if column.reading is Reading.TEXT else sql.SQL("0")
    names |= {"legible": legible(sql.SQL("value"))}
    names |= {"aside": aside, "value": value, "bytes": data, "size": size}
    ((seen, long, aside, matching, values),) = rows(connection, ORDINARY.format(**names))
    if column.reading is Reading.BYTES:
        values = _unescaped(values)
    if long:
        for (excerpts,) in rows(connection, LONG.format(**names)):
            if excerpts:
                matching += 1
                values += _unescaped(["\n".join(excerpts)])
    return Read(seen, matching, values, aside)


def _unescaped(texts: list[str]) -> list[str]:
    """Without escapes: the digits of one would be taken for the first of an address."""
    return [_ESCAPED.sub("\0", text) for text in texts]


# A network has fewer bits than its family; host() would hide that.
INET = sql.SQL("""
    select count({ref}), array(select {ref}::text from {table} as t where {range} and {ref} is not null limit {budget})
      from {table} as t where {range}
""")


def _addresses(
    connection: Connection, names: dict[str, sql.Composable], ref: sql.Composable, budget: int
) -> Read:
    ((seen, values),) = rows(connection, INET.format(**names, ref=ref))
    return Read(seen, seen, values)
