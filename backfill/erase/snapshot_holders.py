"""Snapshot holders: sessions, prepared transactions and slots that keep old rows or old WAL where they are."""

from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows

# Others' details are hidden from who is not in pg_read_all_stats; the session is counted all the same.
SESSIONS = sql.SQL("""
    select format('session %%s of %%s%%s, %%s for %%s s', pid, coalesce(usename, 'somebody'),
                  coalesce(' (' || nullif(application_name, '') || ')', ''), coalesce(state, 'state hidden'),
                  coalesce(extract(epoch from clock_timestamp() - xact_start)::bigint::text, '?'))
      from pg_stat_activity
     where (backend_xmin is not null or backend_xid is not null)
       and pid <> pg_backend_pid() and datname = current_database() and backend_type = 'client backend'
     order by xact_start
""")
PREPARED = sql.SQL("""
    select format('prepared transaction %%L of %%s, since %%s', gid, owner, prepared::timestamp(0))
      from pg_prepared_xacts where database = current_database() order by prepared
""")
SLOTS_OF_ROWS = sql.SQL("""
    select format('replication slot %%s (%%s)', slot_name, slot_type)
      from pg_replication_slots where xmin is not null or catalog_xmin is not null order by slot_name
""")
SLOTS_OF_WAL = sql.SQL("""
    select format('replication slot %%s (%%s%%s) keeps %%s of WAL', slot_name, slot_type,
                  case when active then '' else ', nobody reads it' end,
                  pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)))
      from pg_replication_slots where restart_lsn is not null order by slot_name
""")


@dataclass(frozen=True)
class Pins:
    """Who keeps what, a phrase each."""

    rows: tuple[str, ...]  # old versions of rows, which a rewrite then has to copy
    wal: tuple[str, ...]


def find_pins(connection: Connection) -> Pins:
    """Who pins anything now."""
    of_rows = [line for query in (SESSIONS, PREPARED, SLOTS_OF_ROWS) for line in _lines(connection, query)]
    return Pins(tuple(of_rows), tuple(_lines(connection, SLOTS_OF_WAL)))


def _lines(connection: Connection, query: sql.SQL) -> list[str]:
    return [line for (line,) in rows(connection, query, ())]
