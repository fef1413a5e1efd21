"""Tables and columns of the plan as composed SQL identifiers."""

from psycopg2 import sql

from backfill.plan import Table


def table(part: Table) -> sql.Identifier:
    """``"schema"."table"``."""
    return sql.Identifier(part.schema_, part.table)
