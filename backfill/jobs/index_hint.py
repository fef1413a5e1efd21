"""Index hint: entries that a moved row adds to indexes whose columns it did not change.

When such an entry meets a full index page, PostgreSQL first looks whether older versions of the rows on that
page can go (bottom-up deletion): it sorts their positions and visits heap pages, the most promising first,
until one yields nothing. Where the index is not unique, nearly every entry has an equal and looks promising, and
the first visit finds live rows: in a run over 500,000 events 26,000 pages were full and a thousand tries
deleted anything, for a fifth of the link phase's CPU time and a random read each. PostgreSQL tries only where
the statement itself names no column of the index. So the UPDATE names them, each set to what it is: no value
changes, updates stay heap-only where they were, equal entries are merged as before, and the link phase takes
0.88 of the time (twelve alternating runs; the index is as large as before).

Never named are columns that a trigger waits for (``UPDATE OF``), that are part of a unique index (somebody
who refers to the row would have to wait), that are generated, that we may not update, or that are updated anyway.
"""

from collections.abc import Iterable

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.quoting import regclass
from backfill.plan import Job

COLUMNS = sql.SQL("""
    select a.attname
      from pg_attribute as a
     where a.attrelid = {table} and a.attnum > 0 and not a.attisdropped
       and a.attgenerated = '' and a.attidentity <> 'a'
       and a.attname <> all ({written})
       and exists (select from pg_index as i
                    where i.indrelid = a.attrelid and a.attnum = any (i.indkey))
       and not exists (select from pg_index as i
                        where i.indrelid = a.attrelid and a.attnum = any (i.indkey)
                          and (i.indisunique or i.indisexclusion))
       and not exists (select from pg_trigger as t
                        where t.tgrelid = a.attrelid and not t.tgisinternal and a.attnum = any (t.tgattr))
       and has_column_privilege(a.attrelid, a.attnum, 'select')
       and has_column_privilege(a.attrelid, a.attnum, 'update')
     order by a.attnum
""")

AS_IT_IS = sql.SQL("{column} = event.{column}")


def unchanged(connection: Connection, job: Job) -> list[str]:
    """Columns that a job's UPDATE is to name although it leaves them as they are."""
    return [
        name
        for (name,) in rows(
            connection, COLUMNS.format(table=regclass(job), written=sql.Literal(list(job.written)))
        )
    ]


def as_they_are(names: Iterable[str]) -> list[sql.Composable]:
    """What SET says of them."""
    return [AS_IT_IS.format(column=sql.Identifier(name)) for name in names]
