"""Which search_path a transaction has: ours, under which nothing but pg_catalog is found, or the application's.

Ours is the usual one (``session``). A statement that writes a table of the application makes its triggers,
CHECK functions and index expressions run in our session, and they may count on the application's path.

What is written under the application's path must not look up anything by that path, since whoever may
create objects in one of its schemas could put a better match there, to be run with our rights:

- functions and types as ``pg_catalog.name``; casts as ``value::pg_catalog.text``;
- operators as ``OPERATOR(pg_catalog.=)``, those of an extension's type with the schema that the catalog names;
- tables with their schema, temporary ones as ``pg_temp.name``;
- none of ``NULLIF``, ``IN``, ``= ANY``, ``BETWEEN``, ``CASE x WHEN``, ``IS DISTINCT FROM``, ``USING``, ``NATURAL``,
  ``LIKE``, ``DISTINCT`` on a type of the application's, row comparison: they look up an operator by path.
  ``COALESCE``, ``CASE WHEN``, ``IS NULL``, ``AND``, ``OR``, ``NOT`` are safe, and ``GREATEST``, ``ORDER BY``,
  ``GROUP BY`` and ``ON CONFLICT`` go by the type.

Statements of SQLAlchemy Core (the ledger's) are not written so: they need our own path. Constraint triggers
that are deferred run at the commit, so a transaction that wrote should end under the application's path.
"""

from sqlalchemy import Connection, text

from backfill.database.session import SAFE_PATH, SETTINGS, Origin

ORIGIN = "origin"  # key in the connection's ``info``: stays with the driver's connection

SET = text("""
    select pg_catalog.set_config('search_path', :path, true),
           pg_catalog.set_config('TimeZone', :zone, true),
           pg_catalog.set_config('row_security', :row_security, true)
""")


def application_path(connection: Connection) -> str:
    """The search_path that this session would have had by role and database."""
    return _origin(connection).search_path


def _origin(connection: Connection) -> Origin:
    origin: Origin = connection.info[ORIGIN]
    return origin


def under_application_path(connection: Connection) -> None:
    """Until the transaction ends: the application's search_path and time zone, and row_security on.

    Read before what a policy must not filter, and what is not written as this module says.
    """
    origin = _origin(connection)
    _set(connection, origin.search_path, origin.time_zone, "on")


def under_own_path(connection: Connection) -> None:
    """Back, in the same transaction: for statements of ours after those that write."""
    _set(connection, SAFE_PATH, SETTINGS["TimeZone"], "off")


def _set(connection: Connection, path: str, zone: str, row_security: str) -> None:
    connection.execute(SET, {"path": path, "zone": zone, "row_security": row_security})
