"""Who holds an advisory lock of ours, in words that help to find that session."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.engine import rows

# An advisory lock of two numbers; each is kept as 32 bits without a sign.
HOLDERS = sql.SQL("""
    select activity.pid, activity.usename, activity.application_name,
           to_char(activity.backend_start, 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
      from pg_locks as lock left join pg_stat_activity as activity on activity.pid = lock.pid
     where lock.locktype = 'advisory' and lock.granted and lock.objsubid = 2
       and lock.database = (select oid from pg_database where datname = current_database())
       and lock.classid::bigint = %s::bigint & 4294967295 and lock.objid::bigint = %s::bigint & 4294967295
""")


def holder(connection: Connection, first: int, second: int) -> str:
    """The session that holds advisory lock (*first*, *second*): process, role, application, since when."""
    found = rows(connection, HOLDERS, (first, second))
    return (
        "; ".join(
            f"session {pid} of role {role or '(hidden)'}"
            f"{f', application {application}' if application else ''}{f', since {since}' if since else ''}"
            for pid, role, application, since in found
        )
        or "a session that has ended meanwhile"
    )
