"""Locks of our commands: held by a session, and only by one whose role may write the ledger.

An advisory lock is freed the moment its session is gone, and survives commits; but any role may take
any number. So the number is drawn anew each time a lock is taken, and kept in a table that only writers
of the ledger can change: whoever knows it beforehand is trusted, and whoever reads it in ``pg_locks``
comes too late. A session of another role that sits on a number blocks nobody: the next one draws another.

A table lock in an open transaction would do without numbers, but it would not survive the heartbeats'
commits, and ``idle_in_transaction_session_timeout`` of a role would end it.
"""

import secrets
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute, rows, value

RUN, VERIFY, CHAIN = "run", "verify", "chain"

EXISTS = sql.SQL("select to_regclass(format('%%I.locks', %s::text)) is not null")
# Also for scripts, which psql runs. Before the first revision: what brings the ledger takes turns as well.
CREATE = "create table if not exists {schema}.locks (name text primary key, key bigint not null)"

KNOW = sql.SQL("insert into {} (name, key) values (%s, 0) on conflict do nothing")
MINE = sql.SQL("select key from {} where name = %s for update")
DRAW = sql.SQL("update {} set key = %s where name = %s")
TAKE = sql.SQL("select pg_try_advisory_lock(%s)")
GIVE = sql.SQL("select pg_advisory_unlock(%s)")

HOLDER = sql.SQL("""
    select activity.pid, activity.usename, activity.application_name,
           to_char(activity.backend_start, 'YYYY-MM-DD HH24:MI:SS') || ' UTC', activity.state
      from {table} as entry
      join pg_locks as lock on lock.locktype = 'advisory' and lock.granted and lock.objsubid = 1
                           and lock.database = (select oid from pg_database where datname = current_database())
                           and lock.classid::bigint = (entry.key >> 32) & 4294967295
                           and lock.objid::bigint = entry.key & 4294967295
      join pg_stat_activity as activity on activity.pid = lock.pid
     where entry.name = %s and has_table_privilege(activity.usesysid, to_regclass(format('%%I.locks', %s::text)), 'update')
     limit 1
""")


@dataclass(frozen=True)
class Holder:
    """The session that holds a lock; what this role may not see of it is None."""

    pid: int
    role: str | None
    application: str | None
    since: str | None
    state: str | None

    def __str__(self) -> str:
        parts = [
            f"session {self.pid} of role {self.role or '(hidden)'}",
            f"application {self.application}" if self.application else "",
            f"since {self.since}" if self.since else "",
            self.state or "",
        ]
        return ", ".join(filter(None, parts))


def ensure(connection: Connection, schema: str) -> None:
    """Make the table where it is not yet; the schema is there, and its owner trusted."""
    if not value(connection, EXISTS, (schema,)):
        execute(connection, sql.SQL(CREATE).format(schema=sql.Identifier(schema)))


def holder(connection: Connection, schema: str, name: str) -> Holder | None:
    """Who holds that lock at this moment."""
    statement = HOLDER.format(table=sql.Identifier(schema, "locks"))
    found = rows(connection, statement, (name, schema))
    return Holder(*found[0]) if found else None


def take(connection: Connection, schema: str, name: str) -> int | Holder:
    """The number under which *connection*'s session holds the lock from now on; or who has it. Commits."""
    table = sql.Identifier(schema, "locks")
    execute(connection, KNOW.format(table), (name,))
    execute(connection, MINE.format(table), (name,))  # one draws at a time
    other = holder(connection, schema, name)
    if other is not None:
        connection.rollback()
        return other
    key = secrets.randbits(63)
    execute(connection, DRAW.format(table), (key, name))
    value(connection, TAKE, (key,))  # nobody else has seen it
    connection.commit()
    return key


def give(connection: Connection, key: int) -> None:
    """Give it back. Commits."""
    value(connection, GIVE, (key,))
    connection.commit()
