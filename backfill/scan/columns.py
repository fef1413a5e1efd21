"""Columns: everything in the database that can hold text, and how each is read as text."""

from dataclasses import dataclass
from enum import StrEnum

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.errors import NothingToScan


class Reading(StrEnum):
    """How values of a column are looked at."""

    TEXT = "text"  # as text: text, varchar, citext, xml, hstore, arrays, composites, domains, ranges
    JSON = "json"  # as text in the server; what passes is walked path by path
    INET = "inet"  # every value is an address by its type
    BYTES = "bytes"  # bytea: printable bytes as they are, others escaped


# Types whose text form never holds an address: not worth a pass.
HARMLESS = frozenset(
    {
        "uuid",
        "bool",
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
        "numeric",
        "money",
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "interval",
        "macaddr",
        "macaddr8",
        "oid",
        "xid",
        "xid8",
        "cid",
        "tid",
        "pg_lsn",
        "txid_snapshot",
        "pg_snapshot",
        "bit",
        "varbit",
        "point",
        "line",
        "lseg",
        "box",
        "path",
        "polygon",
        "circle",
        "regproc",
        "regprocedure",
        "regoper",
        "regoperator",
        "regclass",
        "regtype",
        "regrole",
        "regnamespace",
        "regconfig",
        "regdictionary",
        "int4range",
        "int8range",
        "numrange",
        "tsrange",
        "tstzrange",
        "daterange",
        "int4multirange",
        "int8multirange",
        "nummultirange",
        "tsmultirange",
        "tstzmultirange",
        "datemultirange",
        "pg_node_tree",
    }
)

# Enum labels stand in the catalog, once, and not in the rows. A domain is what it is made of, an array
# what its elements are. Materialized views hold rows of their own; views and foreign tables do not.
COLUMNS = sql.SQL("""
    select n.nspname, c.relname, c.oid::bigint, c.relkind, a.attname, base.typname, base.typtype, element.typname,
           element.typtype, pg_relation_size(c.oid) / current_setting('block_size')::int,
           greatest(c.reltuples, 0)::bigint, has_column_privilege(c.oid, a.attnum, 'SELECT')
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_type as given on given.oid = a.atttypid
      join pg_type as base on base.oid = case when given.typtype = 'd' then given.typbasetype else given.oid end
      left join pg_type as element on element.oid = base.typelem and base.typcategory = 'A'
     where c.relkind in ('r', 'm') and c.relpersistence <> 't'
       and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
       and (%(schema)s is null or n.nspname = %(schema)s)
       and (%(table)s is null or c.relname = %(table)s)
     order by n.nspname, c.relname, a.attnum
""")


@dataclass(frozen=True)
class Column:
    """A column of a table or materialized view."""

    schema: str
    table: str
    oid: int
    name: str
    type: str
    reading: Reading
    blocks: int  # of the table
    rows: int  # the planner's estimate
    readable: bool
    kind: str = "r"  # relkind: r, or m

    @property
    def where(self) -> str:
        """As reports and allow-lists call it."""
        place = self.table if self.schema == "public" else f"{self.schema}.{self.table}"
        return f"{place}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """The table."""
        return sql.Identifier(self.schema, self.table)


def columns(connection: Connection, schema: str | None, table: str | None) -> list[Column]:
    """Every column worth a look, in the order of their tables. Raises ``NothingToScan``."""
    if table and "." in table and not schema:
        schema, _, table = table.partition(".")
    found = rows(connection, COLUMNS, {"schema": schema, "table": table})
    if not found:  # a clean answer about an empty database would be one about nothing
        raise NothingToScan(what=".".join(filter(None, (schema, table))) or "this database")
    result = []
    for (
        nspname,
        relname,
        oid,
        kind,
        name,
        base,
        base_kind,
        element,
        element_kind,
        blocks,
        estimate,
        readable,
    ) in found:
        reading = _reading(base, base_kind, element, element_kind)
        if reading is not None:
            shown = f"{element}[]" if element else base
            result.append(
                Column(nspname, relname, oid, name, shown, reading, blocks, estimate, readable, kind)
            )
    return result


def _reading(base: str, kind: str, element: str | None, element_kind: str | None) -> Reading | None:
    if base in HARMLESS or element in HARMLESS or "e" in (kind, element_kind):
        return None
    if base in ("inet", "cidr"):
        return Reading.INET
    if base in ("json", "jsonb"):
        return Reading.JSON
    return Reading.BYTES if base == "bytea" else Reading.TEXT
