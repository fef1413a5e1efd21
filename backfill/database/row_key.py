"""Row key: the columns that name a row, and their values as one text: for the quarantine and for messages.

The text of a key of one column is that column's. Of several it is a JSON array of their texts, in the order of the
plan: whatever they hold, no two rows have the same one, and each can be read back by its type. Where a plan names no
key, the catalog is asked: the primary key, else the first unique index, else none; never one with a column that holds
raw addresses, may be NULL, or is written by a job, since its value would be an address on record, or change under the job.

A table without a key has no text. Where the version of a row lies, and which transaction wrote it, says which row is
meant, as long as nobody writes it: its handle.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import column_type
from backfill.database.connection import rows
from backfill.raw_column import RawColumn, Table

# Unique indexes that can name every row. A NOT NULL that was never validated (PostgreSQL 18) lets NULLs be; a column of
# the type inet or cidr holds an address, whatever the plan says of it; a generated one may be made of one.
CANDIDATES = sql.SQL("""
    select array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality as k (number, place)
                   join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.number
                  where k.place <= i.indnkeyatts order by k.place)
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = (select t.oid from pg_class as t join pg_namespace as n on n.oid = t.relnamespace
                          where n.nspname = {schema} and t.relname = {table})
       and i.indisunique and not i.indisexclusion
       and i.indisvalid and i.indisready and i.indislive and i.indpred is null and i.indexprs is null
       and not exists (
               select from unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) as k (number)
                 join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.number
                 join pg_type as given on given.oid = a.atttypid
                where not a.attnotnull or a.attgenerated <> '' or a.attname = any (%s)
                   or exists (with recursive base (oid) as (
                                  select given.oid
                                  union all
                                  select t.typbasetype from base join pg_type as t on t.oid = base.oid and t.typtype = 'd')
                              select from base where oid in ('inet'::regtype, 'cidr'::regtype))
                   or exists (select from pg_constraint as con
                               where con.conrelid = i.indrelid and con.contype = 'n' and con.conkey[1] = a.attnum
                                 and not con.convalidated))
     order by i.indisprimary desc, i.indnkeyatts, i.indimmediate desc, c.relname
     limit 1
""")

HANDLE = sql.SQL("pg_catalog.concat(event.ctid, '/', event.xmin)")
# With the transaction: a version that is gone may have left its place to another row.
MEANS = sql.SQL("""
    (event.ctid OPERATOR(pg_catalog.=) pg_catalog.split_part({text}, '/', 1)::pg_catalog.tid
     and event.xmin::pg_catalog.text OPERATOR(pg_catalog.=) pg_catalog.split_part({text}, '/', 2))
""")


@dataclass(frozen=True)
class RowKey:
    """What names a row of a table."""

    columns: tuple[str, ...]  # none: nothing does

    def text(self, alias: str = "event") -> sql.Composable:
        """The key of a row as one text; all is qualified. NULL where the table has no key."""
        texts = [sql.SQL("{}::pg_catalog.text").format(sql.Identifier(alias, name)) for name in self.columns]
        if len(texts) < 2:
            return texts[0] if texts else sql.SQL("null::pg_catalog.text")
        return sql.SQL("pg_catalog.json_build_array({})::pg_catalog.text").format(sql.SQL(", ").join(texts))

    def handle(self) -> sql.Composable:
        """The key of the row ``event``; where the table has none, place and transaction of its version. All is qualified."""
        return self.text() if self.columns else HANDLE

    def names(self, connection: Connection, part: RawColumn, text: sql.Composable) -> sql.Composable:
        """*text*, a handle by these columns, means the row ``event``: found by the key's index, or where it lies; all is qualified."""
        if not self.columns:
            return MEANS.format(text=text)
        alone = len(self.columns) == 1
        conditions = []
        for number, name in enumerate(self.columns):
            kind = column_type(connection, part, name)
            given = text if alone else sql.SQL("({}::pg_catalog.json OPERATOR(pg_catalog.->>) {})").format(
                text, sql.Literal(number)
            )  # fmt: skip
            conditions.append(
                sql.SQL("event.{} {} {}::{}").format(
                    sql.Identifier(name), kind.equals, given, sql.SQL(kind.name)
                )
            )
        return sql.SQL("({})").format(sql.SQL(" and ").join(conditions))

    @property
    def array(self) -> sql.Composable:
        """The columns, as they stand on record."""
        return sql.SQL("{}::pg_catalog.text[]").format(sql.Literal(list(self.columns)))


def row_key(connection: Connection, part: RawColumn) -> RowKey:
    """What names a row of that table: as the plan says, or as the catalog has it now."""
    if part.key_columns is not None:
        return RowKey(part.key_columns)
    return RowKey(catalog_key(connection, part, part.in_no_key))


def catalog_key(connection: Connection, part: Table, but: Iterable[str]) -> tuple[str, ...]:
    """The key that the catalog has for that table, with none of the columns *but*; none where there is none."""
    # Not by regclass, which asks for USAGE on the schema: that is told by a finding of preflight.
    statement = CANDIDATES.format(schema=sql.Literal(part.schema_), table=sql.Literal(part.table))
    found = rows(connection, statement, (sorted(but),))
    return tuple(found[0][0]) if found else ()
