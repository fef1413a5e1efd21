"""Offline script: one statement, run now or written into an offline script; quoting for both.

Offline there is no connection, so literals are quoted by SQLAlchemy's dialect. Online there
is only the connection of the chain that we are in, with the driver that its application chose.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Text
from sqlalchemy.dialects.postgresql.base import PGDialect

from alembic import op
from backfill.database import verbatim
from backfill.database.quoting import quoted_table
from backfill.raw_column import Table

# Another style of parameters would double each % of a text.
_DIALECT = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
_TEXT = Text().literal_processor(_DIALECT)  # type: ignore[no-untyped-call]


def literal(text: str) -> str:
    """``'text'``."""
    if _TEXT is None:
        raise TypeError("the dialect cannot write text")
    return str(_TEXT(text))


def regclass(part: Table) -> str:
    """``'"schema"."table"'::regclass``."""
    return f"{literal(quoted_table(part))}::pg_catalog.regclass"


def dollars(body: str, tag: str) -> str:
    """``$tag$body$tag$``, with a tag that *body*, names in it included, does not have."""
    while f"${tag}$" in body:
        tag += "_"
    return f"${tag}${body}${tag}$"


def offline() -> bool:
    """Whether a script is being written instead of a database changed."""
    return bool(op.get_context().as_sql)


def emit(statement: str) -> None:
    """Run the statement, or write it into the script."""
    if offline():
        op.get_context().impl.static_output(f"{statement.strip()};\n")
    else:
        verbatim.run(op.get_bind(), statement)


def ask(statement: str) -> Sequence[Any]:
    """The rows of a query; online only."""
    return verbatim.fetch(op.get_bind(), statement)


def tell(text: str) -> None:
    """A line for the operator; a comment in a script."""
    if offline():
        op.get_context().impl.static_output(f"-- {text}\n")
        return
    config = op.get_context().config
    if config is not None:
        config.print_stdout(text)
