"""Statistics: ANALYZE copied most-common values into ``pg_statistic``, and a drop only marks them dead."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute, value

# VACUUM FULL of both holds up every planner for some milliseconds: they are small.
CATALOGS = ("pg_statistic", "pg_statistic_ext_data")


def allowed(connection: Connection) -> bool:
    """Whether we may rewrite a system catalog: its owner, or (from 17 on) who has MAINTAIN on it."""
    return bool(
        value(
            connection,
            sql.SQL("""
                select current_setting('is_superuser') = 'on'
                    or case when current_setting('server_version_num')::int >= 170000
                            then has_table_privilege('pg_catalog.pg_statistic', 'MAINTAIN') else false end
            """),
        )
    )


def rewrite(connection: Connection, lock_timeout_ms: int) -> None:
    """Rewrite both; *connection* is in autocommit."""
    execute(connection, sql.SQL("set lock_timeout = {}").format(sql.Literal(f"{lock_timeout_ms * 10}ms")))
    for name in CATALOGS:
        execute(connection, sql.SQL("vacuum (full) {}").format(sql.Identifier("pg_catalog", name)))
