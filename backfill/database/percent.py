"""Percent: names that hold ``%``, in statements with values.

psycopg2 composes the text of a statement and then fills its values in by ``%``, without doubling those that came
with a name or a literal: a column called ``100% ip`` makes it fail, or take a value for another.
"""

from typing import Any

from psycopg2 import sql


def doubled(statement: Any, context: Any) -> Any:
    """*statement* for ``execute`` with values; the ``%`` of its names and literals are no placeholders."""
    if isinstance(statement, sql.Composed):
        return sql.Composed([doubled(part, context) for part in statement])
    if isinstance(statement, (sql.Identifier, sql.Literal)):
        return sql.SQL(statement.as_string(context).replace("%", "%%"))
    return statement
