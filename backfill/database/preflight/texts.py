"""Texts: keys and names whose bytes the database's encoding leaves undefined, so that the server cannot send them.

A raw text of that kind is quarantined by its row's key. A key of that kind could name no row, and a name of that kind
fails whatever reads the catalog.
"""

from collections.abc import Iterator

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows, value
from backfill.database.decodable import ASCII, decodable, escaped, legible
from backfill.database.preflight.finding import Finding, blocks
from backfill.database.preflight.target import Target
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.database.shown_key import HIDDEN, shown_keys
from backfill.plan import Addresses, Job
from backfill.raw_column import RawColumn, Table

UNDECODABLE_NAME = blocks("undecodable-name")
UNDECODABLE_KEY = blocks("undecodable-key")

NAMED = 5
NAMES = sql.SQL("""
    select what, {shown}
      from (select 'a column', attname::text from pg_attribute where attrelid = {table} and attnum > 0 and not attisdropped
             union all select 'a constraint', conname::text from pg_constraint where conrelid = {table} or confrelid = {table}
             union all select 'a trigger', tgname::text from pg_trigger where tgrelid = {table}
             union all select 'a rule', rulename::text from pg_rewrite where ev_class = {table}
             union all select 'a policy', polname::text from pg_policy where polrelid = {table}
             union all select 'an index', c.relname::text
                         from pg_index as i join pg_class as c on c.oid = i.indexrelid where i.indrelid = {table}
           ) as named (what, name)
     where not {decodable}
     order by 1, 2
""")

# Not by to_regclass, which asks for USAGE on the schema: that is told by a finding of its own.
OID = sql.SQL("""(
    select c.oid from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = {schema} and c.relname = {table}
)""")

KEYS = sql.SQL("""
    select count(*) over (), {shown}, {legible} from {table} as event where not {decodable} limit {named}
""")

WITH = (
    "with a client whose encoding is the database's (PGCLIENTENCODING={}), since UTF-8 has no such character"
)


def names(connection: Connection, part: Table) -> Iterator[Finding]:
    """Before anything else of the catalog is read."""
    name, place = (
        sql.SQL("named.name"),
        OID.format(schema=sql.Literal(part.schema_), table=sql.Literal(part.table)),
    )
    statement = NAMES.format(table=place, shown=escaped(name), decodable=decodable(name))
    for what, shown in rows(connection, statement):
        yield UNDECODABLE_NAME(
            f"{part.schema_}.{part.table}",
            f"Table {part.name} has {what} whose name the server cannot send: {shown} (in octal, what the encoding of the database leaves undefined).",
            f"Rename it {WITH.format(_encoding(connection))}.",
        )


def keys(target: Target) -> Iterator[Finding]:
    """Counted exactly, row by row, where the key is of a type that could hold such a text."""
    part = target.part
    if not target.writes or not isinstance(part, Addresses | Job):
        return
    for name in row_key(target.connection, part).columns:
        yield from _undecodable_keys(target, name)


def _undecodable_keys(target: Target, name: str) -> Iterator[Finding]:
    part, column = target.part, target.columns.get(name)
    if column is None or column.base in ASCII:
        return
    key = sql.SQL("event.{}::text").format(sql.Identifier(name))
    statement = KEYS.format(
        shown=escaped(key),
        legible=legible(key),
        table=table(part),
        decodable=decodable(key),
        named=sql.Literal(NAMED),
    )
    found = rows(target.connection, statement)
    if found:
        number = found[0][0]
        shows = shown_keys(target.connection, part, [name]) if isinstance(part, RawColumn) else str
        yield UNDECODABLE_KEY(
            target.column(name),
            f"{number:,} {'key' if number == 1 else 'keys'} in {part.name}.{name} cannot be sent by the server, so "
            f"{'its row' if number == 1 else 'their rows'} could not be named: {', '.join(HIDDEN if shows(plain) == HIDDEN else shown for _, shown, plain in found)}"
            f"{' and more' if number > len(found) else ''} (in octal, what the encoding of the database leaves undefined).",
            f"Give {'it' if number == 1 else 'them'} another key {WITH.format(_encoding(target.connection))}; "
            f"or name another key in the plan{', or none (key = [])' if isinstance(part, Job) else ''}.",
        )


def _encoding(connection: Connection) -> str:
    return str(value(connection, sql.SQL("select getdatabaseencoding()")))
