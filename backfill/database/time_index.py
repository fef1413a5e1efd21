"""Time index: whether an index leads from a time to the rows that are older."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.database.quoting import regclass
from backfill.raw_column import Table

# A partial index leads to some rows only. A btree over several columns helps by its first one, a BRIN by each.
EXISTS = sql.SQL("""
    select exists (
        select from pg_index as i
          join pg_class as c on c.oid = i.indexrelid
          join pg_am as m on m.oid = c.relam
          join pg_attribute as a on a.attrelid = i.indrelid and a.attname = {column}
         where i.indrelid = {table} and i.indisvalid and i.indisready and i.indpred is null
           and (m.amname = 'btree' and i.indkey[0] = a.attnum
                or m.amname = 'brin' and a.attnum = any (i.indkey::int2[])))
""")


def has_time_index(connection: Connection, part: Table, column: str) -> bool:
    """A valid btree or BRIN index of the whole table leads by that column."""
    return bool(value(connection, EXISTS.format(column=sql.Literal(column), table=regclass(part))))
