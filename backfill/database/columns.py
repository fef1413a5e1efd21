"""Columns: the columns of a table as the catalog has them. What is in the way of a command is preflight's."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import encodings
from sqlalchemy import Connection, text

from backfill.database.connection import rows
from backfill.database.quoting import regclass
from backfill.errors import SchemaUnfit
from backfill.plan import Addresses
from backfill.raw_column import Table

KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table"}

RELATION = text("""
    select c.relkind::text, c.relispartition, getdatabaseencoding()::text  -- some drivers return "char" as bytes
      from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = :schema and c.relname = :name
""")
# Names by their bytes: one that the server cannot send would keep us from all others, and from saying so.
COLUMNS = text("""
    select encode(decode(replace(a.attname::text, chr(92), repeat(chr(92), 2)), 'escape'), 'hex'), format_type(a.atttypid, null), a.attnotnull,
           exists (select from pg_index as i
                    where i.indrelid = a.attrelid and i.indisunique and i.indpred is null
                      and i.indnkeyatts = 1 and i.indkey[0] = a.attnum),
           not exists (select from pg_constraint as con  -- PostgreSQL 18 has such a NOT NULL
                        where con.conrelid = a.attrelid and con.contype = 'n' and con.conkey[1] = a.attnum
                          and not con.convalidated)
      from pg_attribute as a join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = :schema and c.relname = :name and a.attnum > 0 and not a.attisdropped
""")

# Characters that a column takes, its domain's limit included.
WIDTHS = sql.SQL("""
    with recursive step (name, oid, typmod) as (
        select a.attname::text, a.atttypid, a.atttypmod from pg_attribute as a
         where a.attrelid = {table} and a.attname = any (%s)
        union all
        select step.name, t.typbasetype, t.typtypmod
          from step join pg_type as t on t.oid = step.oid and t.typtype = 'd'
    )
    select name, max(typmod) - 4 from step group by name having max(typmod) > 0
""")

# The operator is that of the type's default b-tree, which only a superuser can set: not any "=" that somebody made.
COLUMN_TYPE = sql.SQL("""
    with recursive base as (
        select a.atttypid as oid, 0 as depth from pg_attribute as a where a.attrelid = {table} and a.attname = %s
        union all
        select t.typbasetype, depth + 1 from base join pg_type as t on t.oid = base.oid where t.typtype = 'd'
    )
    select format('%%I.%%I', n.nspname, t.typname), (select oid from base order by depth desc limit 1) = 'inet'::regtype,
           coalesce((select operators.nspname
                       from pg_opclass as c
                       join pg_am as method on method.oid = c.opcmethod and method.amname = 'btree'
                       join pg_amop as found on found.amopfamily = c.opcfamily and found.amopstrategy = 3
                        and found.amoplefttype = c.opcintype and found.amoprighttype = c.opcintype
                       join pg_operator as o on o.oid = found.amopopr
                       join pg_namespace as operators on operators.oid = o.oprnamespace
                      where c.opcdefault and c.opcintype = (select oid from base order by depth desc limit 1)),
                    'pg_catalog')
      from base join pg_type as t on t.oid = base.oid join pg_namespace as n on n.oid = t.typnamespace
     where base.depth = 0
""")


@dataclass(frozen=True)
class Column:
    """A column as the catalog has it."""

    type: str
    not_null: bool
    unique: bool
    validated: bool = True  # not_null: of rows that were there before, too


def columns(connection: Connection, part: Table) -> dict[str, Column] | str:
    """The table's columns by name, or the problem with the table in words."""
    # Through any driver: a gate asks it with the connection of somebody else's chain.
    named = {"schema": part.schema_, "name": part.table}
    found = connection.execute(RELATION, named).all()
    if not found:
        return f"Table {part.name} does not exist in this database. Check BACKFILL_DATABASE_URL, or the plan."
    ((kind, is_partition, encoding),) = found
    if kind != "r" or is_partition:
        what = KINDS.get(kind, "not a plain table") if kind != "r" else "a partition"
        return f"{part.name} is {what}, which is not supported. Name plain tables in the plan."
    codec = encodings.get(encoding, "ascii")
    return {
        bytes.fromhex(name).decode(codec, "replace"): Column(*rest)
        for name, *rest in connection.execute(COLUMNS, named)
    }


@dataclass(frozen=True)
class ColumnType:
    """Type of a column, to be used under any search_path."""

    name: str  # schema and all, without a length: "character" alone would be one character
    equals: sql.Composable  # the operator by which an index finds a value
    is_inet: bool  # or a domain over it


def column_type(connection: Connection, part: Table, name: str) -> ColumnType:
    """Type of that column. Raises ``SchemaUnfit``."""
    found = columns(connection, part)
    if isinstance(found, str):
        raise SchemaUnfit(problem=found)
    if name not in found:
        raise SchemaUnfit(problem=f"Table {part.name} has no column {name}. Check the plan.")
    ((type_, is_inet, schema),) = rows(connection, COLUMN_TYPE.format(table=regclass(part)), (name,))
    return ColumnType(type_, sql.SQL("OPERATOR({}.=)").format(sql.Identifier(schema)), is_inet)


def key_type(connection: Connection, part: Addresses) -> str:
    """SQL type of the address table's key."""
    return column_type(connection, part, part.key).name


def has_column(connection: Connection, part: Table, name: str) -> bool:
    """Whether the table exists and has that column."""
    found = columns(connection, part)
    return not isinstance(found, str) and name in found


def widths(connection: Connection, part: Table, names: Sequence[str]) -> dict[str, int]:
    """How many characters those text-like columns take; one without a limit is left out."""
    found = rows(connection, WIDTHS.format(table=regclass(part)), (list(names),))
    return {name: int(width) for name, width in found}
