"""People: the accounts that event rows refer to, by foreign keys to the table of users."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import column_type, columns
from backfill.database.connection import copy_in, execute, rows
from backfill.database.decodable import legible
from backfill.database.quoting import table
from backfill.lookup.address_rows import has_table
from backfill.pypi.disclosure import PEOPLE
from backfill.pypi.references import foreign_keys
from backfill.raw_column import Table

KEY, USERNAME = "id", "username"

STAGE = sql.SQL("""
    create temporary table if not exists backfill_asked_people (by_column text, named text) on commit delete rows;
    truncate pg_temp.backfill_asked_people
""")
# What is asked came out of a foreign key, so that the type of the column takes it.
NAMED = sql.SQL("""
    select asked.by_column, asked.named, person.{key}::text, {username}
      from pg_temp.backfill_asked_people as asked
      join {people} as person on person.{column} {equals} asked.named::{type}
     where asked.by_column = {name}
""")


@dataclass(frozen=True)
class Person:
    """A row of the table of users: an account."""

    key: str
    username: str | None


@dataclass(frozen=True)
class References:
    """Which columns refer to people: (schema, table) → its column → that of the table of users."""

    known: Mapping[tuple[str, str], Mapping[str, str]]

    def columns(self, part: Table) -> tuple[str, ...]:
        """Of that table."""
        return tuple(self.known.get((part.schema_, part.table), ()))


def references(connection: Connection, ledger_schema: str) -> References | None:
    """None where the database has no table of users as PyPI's, or this role may not read it."""
    known = columns(connection, PEOPLE)
    if isinstance(known, str) or not {KEY, USERNAME} <= set(known):
        return None
    if not has_table(connection, PEOPLE.schema_, PEOPLE.table):
        return None
    found: dict[tuple[str, str], dict[str, str]] = {}
    for part, readable, own, theirs in foreign_keys(connection, PEOPLE, ledger_schema):
        if readable and len(own) == 1 and theirs[0] in (KEY, USERNAME):
            found.setdefault((part.schema_, part.table), {})[own[0]] = theirs[0]
    return References(found)


def accounts(connection: Connection, named: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Person]:
    """The accounts that (column of the table of users, value) name."""
    wanted = sorted(set(named))
    if not wanted:
        return {}
    execute(connection, STAGE)
    copy_in(connection, sql.SQL("pg_temp.backfill_asked_people"), ["by_column", "named"], wanted)
    found: dict[tuple[str, str], Person] = {}
    for name in (KEY, USERNAME):
        kind = column_type(connection, PEOPLE, name)
        statement = NAMED.format(
            people=table(PEOPLE),
            key=sql.Identifier(KEY),
            column=sql.Identifier(name),
            name=sql.Literal(name),
            equals=kind.equals,
            type=sql.SQL(kind.name),
            username=legible(sql.Identifier("person", USERNAME)),
        )
        found |= {(by, value): Person(*person) for by, value, *person in rows(connection, statement)}
    return found
