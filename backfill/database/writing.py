"""Writing a table of the application: under its own search_path, and only where no policy hides rows from us."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute
from backfill.database.quoting import table
from backfill.database.search_path import under_application_path, under_own_path
from backfill.raw_column import Table


@contextmanager
def writes(connection: Connection, *parts: Table) -> Iterator[None]:
    """For the statements that write *parts*; what they have to look like says ``path``.

    Under the application's path row security is on, since triggers of the application may count on it. So the
    server is asked before, while it still raises where a policy would hide rows (42501).
    """
    for part in parts:
        execute(connection, sql.SQL("select from {} limit 0").format(table(part))).close()
    under_application_path(connection)
    yield
    # What triggers of the application put off runs here, under its path, and not at the commit under ours.
    execute(connection, sql.SQL("set constraints all immediate")).close()
    under_own_path(connection)
