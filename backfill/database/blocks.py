"""Block geometry: where a table lies on disk, and ranges of its blocks."""

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.quoting import regclass
from backfill.raw_column import Table


@dataclass(frozen=True)
class Heap:
    """A table's file at one moment. Another *filenode* means that every block position has changed."""

    filenode: int
    blocks: int
    rows: int  # the planner's estimate


@dataclass(frozen=True)
class Range:
    """Heap blocks from *first* up to, not including, *last*."""

    first: int
    last: int

    def holds(self, alias: str) -> sql.Composed:
        """``alias.ctid`` lies in this range: a TID range scan, since both bounds are constants."""
        return sql.SQL(
            "({0}.ctid OPERATOR(pg_catalog.>=) {1}::pg_catalog.tid"
            " and {0}.ctid OPERATOR(pg_catalog.<) {2}::pg_catalog.tid)"
        ).format(sql.Identifier(alias), sql.Literal(f"({self.first},0)"), sql.Literal(f"({self.last},0)"))


def heap_of(connection: Connection, part: Table) -> Heap:
    """The heap of that table as it stands."""
    statement = sql.SQL("""
        select pg_relation_filenode(c.oid)::bigint,
               pg_relation_size(c.oid) / current_setting('block_size')::int,
               greatest(c.reltuples, 0)::bigint
          from pg_class as c
         where c.oid = {}
    """).format(regclass(part))
    ((filenode, blocks, estimate),) = rows(connection, statement)
    return Heap(filenode, blocks, estimate)


def ranges(blocks: int, size: int, first: int = 0) -> Iterator[Range]:
    """Blocks *first* … *blocks* in ranges of *size*."""
    for start in range(first, blocks, size):
        yield Range(start, min(start + size, blocks))


def even_ranges(blocks: int, size: int) -> Iterator[Range]:
    """All blocks in as few ranges of at most *size* as will do, and all alike: none is left over at the end."""
    number = -(-blocks // size)
    yield from ranges(blocks, -(-blocks // number) if number else size)
