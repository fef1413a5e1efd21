"""Written since: rows that may have been read nowhere, since an UPDATE moved them while ranges were read.

A row that moves into blocks that were read already is in no range. Its version is younger than the verification; so one
statement, with one snapshot of the whole table, finds all of them.
"""

from dataclasses import dataclass

from psycopg2 import sql

from backfill.database.blocks import Range


@dataclass(frozen=True)
class WrittenSince(Range):
    """Rows of all blocks whose version is of no transaction that had ended at a moment."""

    oldest: int  # transaction that was under way then: the low 32 bits of its number

    @classmethod
    def of(cls, snapshot: str, blocks: int) -> "WrittenSince":
        """*snapshot*: of that moment, as ``pg_snapshot`` prints it."""
        return cls(0, blocks, int(snapshot.partition(":")[0]) % 2**32)

    def holds(self, alias: str) -> sql.Composed:
        """Of a frozen row, the number of its transaction is still there: a few more are found after 2 billion of them."""
        return sql.SQL(
            "(pg_catalog.age({}.xmin) OPERATOR(pg_catalog.<=) pg_catalog.age({}::pg_catalog.xid))"
        ).format(sql.Identifier(alias), sql.Literal(str(self.oldest)))
