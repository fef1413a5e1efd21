"""Who keeps an old snapshot: while one is pinned anywhere, nothing that we leave behind can be pruned.

No reason to hold, only to stop going over a batch in passes: measured with an old snapshot, none of
the updates of eight passes were heap-only, and the heap grew to 2.8 times its size.
"""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows

HOLDERS = sql.SQL("""
    select what, extract(epoch from age) from (
        select format('session %s (%s)', pid, coalesce(nullif(application_name, ''), backend_type)) as what,
               clock_timestamp() - xact_start as age
          from pg_stat_activity
         where (backend_xmin is not null or backend_xid is not null)
           and backend_type in ('client backend', 'walsender') and application_name <> 'backfill'
           and (datname = current_database() or datname is null)
        union all
        select format('prepared transaction %s', gid), clock_timestamp() - prepared
          from pg_prepared_xacts where database = current_database()
        union all
        select format('standby %s (hot_standby_feedback)', coalesce(nullif(application_name, ''), pid::text)),
               null
          from pg_stat_replication
         where backend_xmin is not null and age(backend_xmin) > {transactions}
        union all
        select format('replication slot %s', slot_name), null
          from pg_replication_slots where xmin is not null and age(xmin) > {transactions}
    ) as holder
     where age > make_interval(secs => {seconds}) or age is null
     order by age desc nulls last
     limit 1
""")
TRANSACTIONS = 10_000  # a standby and a slot have no beginning; theirs is counted in transactions


class OldSnapshot:
    """The oldest snapshot, once it is older than *seconds*."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._statement = HOLDERS.format(seconds=sql.Literal(seconds), transactions=sql.Literal(TRANSACTIONS))

    def holder(self, connection: Connection) -> str | None:
        """Who it is and since when, in words; None for nobody."""
        found = rows(connection, self._statement)
        if not found:
            return None
        ((what, age),) = found
        return f"{what} keeps a snapshot for {age:.0f} s" if age is not None else f"{what} keeps a snapshot"
