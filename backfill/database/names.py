"""Tables and columns of the plan as composed SQL."""

from psycopg2 import sql

from backfill.plan import Table


def table(part: Table) -> sql.Identifier:
    """``"schema"."table"``."""
    return sql.Identifier(part.schema_, part.table)


def quoted(part: Table) -> str:
    """``"schema"."table"`` as text, for functions that take a name."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in (part.schema_, part.table))


def regclass(part: Table) -> sql.Composed:
    """``'"schema"."table"'::regclass``, for the catalog's functions."""
    return sql.SQL("{}::regclass").format(sql.Literal(quoted(part)))


def column(alias: str, name: str) -> sql.Identifier:
    """``"alias"."column"``."""
    return sql.Identifier(alias, name)
