"""Verbatim: SQL text that reaches the server as it stands, through whichever driver a connection has."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, TextClause, text


def verbatim(statement: str) -> TextClause:
    """One statement without parameters: no colon in it is a placeholder, and SQLAlchemy doubles ``%`` where its driver asks."""
    return text(statement.replace(":", "\\:"))


def run(connection: Connection, statement: str) -> None:
    """Execute one statement; asyncpg takes no second one."""
    connection.execute(verbatim(statement))


def fetch(connection: Connection, statement: str) -> Sequence[Any]:
    """The rows of a query."""
    return connection.execute(verbatim(statement)).all()
