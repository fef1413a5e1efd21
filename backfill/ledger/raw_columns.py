"""Raw columns: a raw column that a record is about, found again under whatever name it has now.

A column that is not there under its name was dropped, or renamed: then every address is still there.

Gates ask through the application's own driver, whatever that is: by text and parameters alone.
"""

from psycopg2.sql import SQL, Composable, Literal
from sqlalchemy import Connection, text

from backfill.database.quoting import quoted
from backfill.errors import ColumnMoved
from backfill.job_id import JobId
from backfill.raw_column import RawColumn

# NULL: it was dropped. A table that a shadow copy replaced is in the ledger's list, and prove's to find.
# {coverage}: the ledger's table; {job}: a literal.
STANDS = """
    (select n.nspname || '.' || c.relname || '.' || a.attname
       from (select seen.raw_column as place from {coverage} as seen
              where seen.job = {job}
                and (seen.raw_column is not null or seen.shadow is not null)
              order by seen.id desc limit 1) as seen
       join pg_attribute as a on concat_ws('/', a.attrelid, a.attnum) = seen.place and not a.attisdropped
       join pg_class as c on c.oid = a.attrelid
       join pg_namespace as n on n.oid = c.relnamespace)
"""
# {schema}, {name}, {column}: literals.
PLACE = """
    (select concat_ws('/', a.attrelid, a.attnum)
       from pg_catalog.pg_attribute as a
       join pg_catalog.pg_class as c on c.oid = a.attrelid
       join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
      where n.nspname = {schema} and c.relname = {name} and a.attname = {column} and not a.attisdropped)
"""


def place(connection: Connection, part: RawColumn) -> str | None:
    """Numbers of table and raw column in the catalog, which no rename changes; none where it is gone."""
    asked = text(f"select {PLACE.format(schema=':schema', name=':name', column=':column')}")
    named = {"schema": part.schema_, "name": part.table, "column": part.raw_column}
    found: str | None = connection.execute(asked, named).scalar()
    return found


def place_expression(part: RawColumn) -> Composable:
    """The same, as an expression of a composed statement."""
    return SQL(PLACE).format(
        schema=Literal(part.schema_), name=Literal(part.table), column=Literal(part.raw_column)
    )


def require_dropped(connection: Connection, schema: str, part: RawColumn) -> None:
    """That a raw column which is not there was not renamed. Raises ``ColumnMoved``."""
    found = None if place(connection, part) else stands(connection, schema, part.identity)
    if found is not None:
        raise ColumnMoved(column=f"{part.name}.{part.raw_column}", place=found)


def stands(connection: Connection, schema: str, job: JobId) -> str | None:
    """Where the raw column of that job stands, by the newest record that saw it; none: it was dropped."""
    coverage = quoted(schema, "coverage").replace(":", "\\:")
    asked = text(f"select {STANDS.format(coverage=coverage, job=':job')}")
    found: str | None = connection.execute(asked, {"job": str(job)}).scalar()
    return found
