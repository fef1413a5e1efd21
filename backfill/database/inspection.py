"""Inspection: the columns of a table as the catalog has them. What is in the way of a command is preflight's."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from backfill.errors import SchemaUnfit
from backfill.plan import Table

KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table"}

RELATION = text("""
    select c.relkind::text, c.relispartition  -- some drivers return "char" as bytes
      from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = :schema and c.relname = :name
""")
COLUMNS = text("""
    select a.attname, format_type(a.atttypid, null), a.attnotnull,
           exists (select from pg_index as i
                    where i.indrelid = a.attrelid and i.indisunique and i.indpred is null
                      and i.indnkeyatts = 1 and i.indkey[0] = a.attnum)
      from pg_attribute as a join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = :schema and c.relname = :name and a.attnum > 0 and not a.attisdropped
""")


@dataclass(frozen=True)
class Column:
    """A column as the catalog has it."""

    type: str
    not_null: bool
    unique: bool


def columns(connection: Connection, part: Table) -> dict[str, Column] | str:
    """The table's columns by name, or the problem with the table in words."""
    # Through any driver: a gate asks it with the connection of somebody else's chain.
    named = {"schema": part.schema_, "name": part.table}
    found = connection.execute(RELATION, named).all()
    if not found:
        return f"Table {part.name} does not exist in this database. Check BACKFILL_DATABASE_URL, or the plan."
    ((kind, is_partition),) = found
    if kind != "r" or is_partition:
        what = KINDS.get(kind, "not a plain table") if kind != "r" else "a partition"
        return f"{part.name} is {what}, which is not supported. Name plain tables in the plan."
    return {name: Column(*rest) for name, *rest in connection.execute(COLUMNS, named)}


def key_type(connection: Connection, part: Table) -> str:
    """SQL type of the primary key, for casts of a row key back from text."""
    found = columns(connection, part)
    if isinstance(found, str):
        raise SchemaUnfit(problem=found)
    return found[part.key].type


def has_column(connection: Connection, part: Table, name: str) -> bool:
    """Whether the table exists and has that column."""
    found = columns(connection, part)
    return not isinstance(found, str) and name in found
