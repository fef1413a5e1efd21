"""Leftovers: what a run leaves of its own when it ends otherwise than by success."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute, rows

# Address map and proof hold raw text and are dropped when their run succeeds; a killed or superseded run
# leaves them. Nothing else of the ledger ever holds an address.
OURS = ("address_map", "address_map_complete", "shadow_texts", "shadow_expected")

FOUND = sql.SQL("""
    select relname, pg_total_relation_size(c.oid)
      from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = %s and c.relname = any(%s) and c.relkind = 'r' order by 1
""")


def count_leftovers(connection: Connection, schema: str) -> dict[str, int]:
    """Our scratch tables that are there, with their bytes."""
    return dict(rows(connection, FOUND, (schema, list(OURS))))


def drop(connection: Connection, schema: str) -> list[str]:
    """Drop them; returns their names."""
    names = list(count_leftovers(connection, schema))
    for name in names:
        execute(connection, sql.SQL("drop table {}").format(sql.Identifier(schema, name)))
    return names
