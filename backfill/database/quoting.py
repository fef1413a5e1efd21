"""Quoting: tables and columns of the plan as composed SQL, and names that hold ``%`` in statements with values.

psycopg2 composes the text of a statement and then fills its values in by ``%``, without doubling those that came
with a name or a literal: a column called ``100% ip`` makes it fail, or take a value for another.
"""

from typing import Any

from psycopg2 import sql

from backfill.raw_column import Table


def quoted(*names: str) -> str:
    """``"schema"."table"`` as text, whatever the names hold: for functions that take a name, and for offline scripts."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def table(part: Table) -> sql.Identifier:
    """``"schema"."table"``."""
    return sql.Identifier(part.schema_, part.table)


def quoted_table(part: Table) -> str:
    """``"schema"."table"`` as text."""
    return quoted(part.schema_, part.table)


def regclass(part: Table) -> sql.Composed:
    """``'"schema"."table"'::regclass``, for the catalog's functions."""
    return sql.SQL("{}::regclass").format(sql.Literal(quoted_table(part)))


def column(alias: str, name: str) -> sql.Identifier:
    """``"alias"."column"``."""
    return sql.Identifier(alias, name)


def doubled(statement: Any, context: Any) -> Any:
    """*statement* for ``execute`` with values; the ``%`` of its names and literals are no placeholders."""
    if isinstance(statement, sql.Composed):
        return sql.Composed([doubled(part, context) for part in statement])
    if isinstance(statement, (sql.Identifier, sql.Literal)):
        return sql.SQL(statement.as_string(context).replace("%", "%%"))
    return statement
