"""Write check: whether rows took what was written, which the count of an UPDATE does not say.

A trigger of the application may leave a row as it is or put another value in, and the server counts it as updated,
or passes over it without a word. So whoever enters a decision looks at the rows first, in the same transaction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg2.errors
from psycopg2 import sql
from sqlalchemy import Connection

from backfill import escaping
from backfill.database.connection import rows
from backfill.database.quoting import quoted_table, regclass
from backfill.errors import ChangeNotTaken, RowsCollide, SchemaUnfit
from backfill.raw_column import Table

SHOWN = 3  # keys

# Whatever fires when that column is updated. Ours are told by the schema of their functions.
TRIGGERS = sql.SQL("""
    select t.tgname
      from pg_trigger as t
      join pg_proc as p on p.oid = t.tgfoid
      join pg_namespace as n on n.oid = p.pronamespace
     where t.tgrelid = {table} and not t.tgisinternal and t.tgenabled in ('O', 'A')
       and n.nspname <> {ledger} and t.tgtype & 16 <> 0
       and (t.tgattr::text = '' or exists (select from pg_attribute as a
                                            where a.attrelid = t.tgrelid and a.attname = {column}
                                              and a.attnum = any (t.tgattr)))
     order by 1
""")
RULES = sql.SQL("""
    select rulename from pg_rewrite where ev_class = {table} and ev_enabled in ('O', 'A') and ev_type = '2' order by 1
""")


def require_taken(
    connection: Connection, schema: str, part: Table, column: str, kept: Sequence[str], asked: int
) -> None:
    """Raises ``ChangeNotTaken``, naming the triggers, where rows (*kept*, by key) are not what was written."""
    if not kept:
        return
    statement = TRIGGERS.format(table=regclass(part), ledger=sql.Literal(schema), column=sql.Literal(column))
    triggers = [name for (name,) in rows(connection, statement)]
    raise ChangeNotTaken(
        table=part.name,
        column=column,
        kept=f"{len(kept):,}",
        asked=f"{asked:,} {'row' if asked == 1 else 'rows'}",
        these="this row was" if asked == 1 else f"these {asked:,} were",
        keys=", ".join(escaping.name(key) for key in sorted(kept)[:SHOWN]),
        triggers=", ".join(escaping.name(name) for name in triggers) or "none that was found",
    )


def require_no_rule(connection: Connection, part: Table) -> None:
    """Raises ``SchemaUnfit`` where a rule rewrites our UPDATE: what it changed, nobody could tell."""
    rules = [name for (name,) in rows(connection, RULES.format(table=regclass(part)))]
    if rules:
        raise SchemaUnfit(
            problem=f"Rule {escaping.name(rules[0])} of {part.name} rewrites what is written to it, so that counts mean nothing. "
            f"Nothing was changed. Disable it meanwhile (alter table {quoted_table(part)} disable rule …), and type the command again."
        )


@contextmanager
def collisions_told(part: Table, column: str) -> Iterator[None]:
    """What writes links raises ``RowsCollide`` in the place of the server's error about a unique key."""
    try:
        yield
    except (psycopg2.errors.UniqueViolation, psycopg2.errors.ExclusionViolation) as error:
        raise RowsCollide(
            table=part.name, column=column, constraint=escaping.name(error.diag.constraint_name or "unknown")
        ) from error
