"""Prefixes: which byte after ``fd`` marks the pseudonyms of a key id. A server selects by it; the tag is checked in the client.

One key id may have one: pseudonyms of another key could be told from raw addresses only by whoever holds that
key's salt as well, and a value that was a pseudonym already would be made one again.
"""

import secrets
from collections.abc import Set

from psycopg2 import sql
from sqlalchemy import Connection, select

from backfill.database.connection import rows, value
from backfill.database.quoting import quoted
from backfill.errors import PrefixesExhausted, PseudonymKeyChanged
from backfill.hashing.pseudonym import Pseudonyms
from backfill.hashing.salt import Salt
from backfill.ledger.tables import pseudonym_prefixes

NEVER = 0x00  # fd00::/16 is what people choose who do not draw at random


def prefix_of(connection: Connection, key_id: str) -> int | None:
    """The byte of that key id, where one was allotted. Raises ``PseudonymKeyChanged`` where another key id has one."""
    found = {row.key_id: int(row.prefix) for row in connection.execute(select(pseudonym_prefixes)).all()}
    others = sorted(set(found) - {key_id})
    if others:
        raise PseudonymKeyChanged(key_id=key_id, earlier=others[0])
    return found.get(key_id)


def all_of(connection: Connection, schema: str) -> frozenset[int]:
    """Every byte that was allotted; none where there is no ledger, or this role may not read it."""
    name = sql.Identifier(schema, pseudonym_prefixes.name)
    asked = sql.SQL("""
        select case when exists (select from pg_namespace where nspname = {} and has_schema_privilege(oid, 'usage'))
                    then coalesce(has_table_privilege(to_regclass({}), 'select'), false) else false end
    """).format(sql.Literal(schema), sql.Literal(quoted(schema, pseudonym_prefixes.name)))
    if not value(connection, asked):
        return frozenset()
    return frozenset(prefix for (prefix,) in rows(connection, sql.SQL("select prefix from {}").format(name)))


def pseudonyms(connection: Connection, key_id: str, salt: Salt) -> Pseudonyms | None:
    """What recognises the pseudonyms of that key id; None where none was ever made. Raises ``PseudonymKeyChanged``."""
    prefix = prefix_of(connection, key_id)
    return None if prefix is None else salt.pseudonyms(prefix)


def allot(connection: Connection, key_id: str, living: Set[int]) -> int:
    """The byte of that key id; drawn at random where it has none, among those that are not *living* in the data.

    Raises ``PseudonymKeyChanged``, ``PrefixesExhausted``.
    """
    known = prefix_of(connection, key_id)
    if known is not None:
        return known
    free = sorted(set(range(256)) - {NEVER} - living)
    if not free:
        raise PrefixesExhausted()
    prefix = secrets.choice(free)
    enter(connection, key_id, prefix)
    return prefix


def enter(connection: Connection, key_id: str, prefix: int) -> None:
    """Put on record that *prefix* is that key id's."""
    connection.execute(pseudonym_prefixes.insert().values(key_id=key_id, prefix=prefix))


def text(schema: str) -> sql.Composed:
    """The beginning of the canonical text of our pseudonyms, as SQL: ``fd7a:``; NULL where none was allotted."""
    # Not format(): beside values, the driver takes its % for a placeholder.
    return sql.SQL("""
        (select 'fd' OPERATOR(pg_catalog.||) pg_catalog.lpad(pg_catalog.to_hex(known.prefix), 2, '0')
                OPERATOR(pg_catalog.||) ':' from {} as known)
    """).format(sql.Identifier(schema, pseudonym_prefixes.name))
