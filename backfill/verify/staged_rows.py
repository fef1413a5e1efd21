"""Staged rows: the rows that a repair changes, in a temporary table, and found again by their handles."""

from collections.abc import Iterable, Sequence

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.blocks import Range, heap_of, ranges
from backfill.database.columns import has_column
from backfill.database.connection import copy_in, execute, rows
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.errors import SchemaUnfit
from backfill.plan import DroppingJob
from backfill.raw_column import RawColumn

BLOCKS = 5_000
FIX = sql.Identifier("pg_temp", "backfill_fix")
LOCK = sql.SQL("""
    select event.ctid from {fix} as fix join {table} as event on {named} order by event.ctid for update of event
""")


def spans(engine: Engine, part: RawColumn) -> list[Range]:
    """The table in ranges. Raises ``SchemaUnfit`` where its raw column is gone."""
    with engine.begin() as connection:
        if not has_column(connection, part, part.raw_column):
            raise SchemaUnfit(problem=f"{part.name}.{part.raw_column} is gone: nothing says what is right.")
        return list(ranges(heap_of(connection, part).blocks, BLOCKS))


def stage(connection: Connection, columns: Sequence[str], records: Iterable[tuple[str | None, ...]]) -> None:
    """Make the table, and put *records* into it; all its columns are text, the first is the handle of a row."""
    fields = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in columns)
    execute(connection, sql.SQL("create temporary table {} ({}) on commit drop").format(FIX, fields)).close()
    copy_in(connection, FIX, columns, records)


def restage(
    connection: Connection, columns: Sequence[str], records: Iterable[tuple[str | None, ...]]
) -> None:
    """Put *records* into it instead of those that are there."""
    execute(connection, sql.SQL("truncate {}").format(FIX)).close()
    copy_in(connection, FIX, columns, records)


def is_named(connection: Connection, job: DroppingJob) -> sql.Composable:
    """The row ``event`` is that of the record ``fix``; all is qualified."""
    return row_key(connection, job).names(connection, job, sql.Identifier("fix", "key"))


def lock(connection: Connection, job: DroppingJob) -> list[str]:
    """Lock the rows that are staged, wherever they lie now; returns their places, at which they stay.

    One that has no key and was written meanwhile is none of them.
    """
    statement = LOCK.format(fix=FIX, table=table(job), named=is_named(connection, job))
    return [place for (place,) in rows(connection, statement)]
