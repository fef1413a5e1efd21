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
from backfill.database.shown_key import shown_keys
from backfill.errors import ChangeNotTaken, RowsCollide, SchemaUnfit
from backfill.raw_column import RawColumn, Table

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
    connection: Connection, schema: str, part: Table, column: str, kept: Sequence[str | None], asked: int
) -> None:
    """Raises ``ChangeNotTaken``, naming the triggers, where rows are not what was written.

    *kept*: their keys; None for one that has none, or is gone.
    """
    if not kept:
        return
    statement = TRIGGERS.format(table=regclass(part), ledger=sql.Literal(schema), column=sql.Literal(column))
    triggers = [name for (name,) in rows(connection, statement)]
    named = sorted(key for key in kept if key is not None)[:SHOWN]
    if isinstance(part, RawColumn):  # of other tables, rows are named by where they lie
        named = list(map(shown_keys(connection, part), named))
    raise ChangeNotTaken(
        table=part.name,
        column=column,
        kept=f"{len(kept):,}",
        asked=f"{asked:,} {'row' if asked == 1 else 'rows'}",
        these="this row was" if asked == 1 else f"these {asked:,} were",
        which=f"the first by key: {', '.join(map(escaping.name, named))}" if named else "nothing names them",
        triggers=", ".join(escaping.name(name) for name in triggers) or "none that was found",
    )


# A trigger may have written a row once more, which put it elsewhere again. All is qualified.
NOW_AT = sql.SQL("""
    event.ctid OPERATOR(pg_catalog.=) any (array(
        select pg_catalog.currtid2({table}, place) from pg_catalog.unnest({written}::pg_catalog.text[]::pg_catalog.tid[]) as place
         union all
        select place from pg_catalog.unnest({tried}::pg_catalog.text[]::pg_catalog.tid[]) as place))
""")


def now_at(part: Table, tried: Sequence[str], written: Sequence[str]) -> sql.Composable:
    """The row ``event`` is one of those that lay at the places *tried*, and were locked there, after an UPDATE of this transaction.

    *written*: the places that it returned. A row that was not written lies where it lay.
    """
    return NOW_AT.format(
        table=sql.Literal(quoted_table(part)),
        written=sql.Literal(list(written)),
        tried=sql.Literal(list(tried)),
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
