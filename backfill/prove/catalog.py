"""Catalog: nothing of this database names the raw column any more. Needs no privilege beyond looking."""

from collections.abc import Iterator

from psycopg2 import sql
from sqlalchemy import Connection

from backfill import escaping
from backfill.database.columns import has_column
from backfill.database.connection import rows
from backfill.database.quoting import quoted_table, regclass
from backfill.erase import leftovers
from backfill.erase.targets import raw_columns
from backfill.ledger import coverage
from backfill.ledger.counts import Count
from backfill.plan import InPlaceJob, Plan
from backfill.prove.finding import Depth, Finding, State
from backfill.raw_column import RawColumn
from backfill.shadow import names

# What hangs on the table itself. PostgreSQL drops what depends on a column with it; what is left is
# text that it does not understand: function bodies.
ON_TABLE = sql.SQL("""
    with named (what, definition) as (
        select 'constraint ' || conname, pg_get_constraintdef(oid) from pg_constraint where conrelid = {table}
         union all
        select 'index ' || indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index where indrelid = {table}
         union all
        select 'trigger ' || tgname, pg_get_triggerdef(t.oid) || ' ' || prosrc
          from pg_trigger as t join pg_proc as p on p.oid = tgfoid where tgrelid = {table} and not tgisinternal
         union all
        select 'rule ' || rulename, pg_get_ruledef(oid) from pg_rewrite where ev_class = {table}
         union all
        select 'policy ' || polname, coalesce(pg_get_expr(polqual, polrelid), '') || coalesce(pg_get_expr(polwithcheck, polrelid), '')
          from pg_policy where polrelid = {table})
    select what from named where definition ~ {word} order by 1
""")

# Elsewhere, the same word may mean another table's column: worth a look, and no proof of anything.
ELSEWHERE = sql.SQL("""
    select 'function ' || p.oid::regprocedure::text
      from pg_proc as p join pg_namespace as n on n.oid = pronamespace
     where n.nspname not in ('pg_catalog', 'information_schema') and prosrc ~ {word} and prosrc ~ {table_word}
       and not exists (select from pg_depend where objid = p.oid and deptype = 'e')
     union all
    select 'view ' || c.oid::regclass::text
      from pg_class as c join pg_namespace as n on n.oid = relnamespace
     where relkind in ('v', 'm') and n.nspname not in ('pg_catalog', 'information_schema')
       and pg_get_viewdef(c.oid) ~ {word} and pg_get_viewdef(c.oid) ~ {table_word}
     order by 1
""")

# Statistics of an attribute that is no more. Others' rows are hidden from who may not read the table.
STALE = sql.SQL("""
    select count(*) from pg_stats as s
     where schemaname = %s and tablename = %s and attname = %s
""")


DROP = "`backfill gates`"  # says how to drop a column that is still there
NOT_DUE = "`backfill status --due` says when one is late"


def search_catalog(connection: Connection, schema: str, plan: Plan, fingerprint: str) -> Iterator[Finding]:
    """A finding for each table of the plan, and what else is named."""
    for part, column in raw_columns(plan):
        if isinstance(part, InPlaceJob):
            yield _rewritten(connection, part, fingerprint)
        else:
            yield from _table(connection, part, column)
    for name in leftovers.count_leftovers(connection, schema):
        what = "our scratch table is still there, with raw addresses in it"
        yield Finding(Depth.CATALOG, f"{schema}.{name}", State.FOUND, what, "`backfill erase`")


def _rewritten(connection: Connection, job: InPlaceJob, fingerprint: str) -> Finding:
    """A column that stays: whether its values were proved to be no raw ones, and which of them may be."""
    where = f"{job.name}.{job.raw}"
    found = coverage.latest(connection, job, fingerprint)
    if found is None or not found[1] or not found[0].covered:
        what = "the column stays, and no verification shows that its values were rewritten"
        return Finding(Depth.CATALOG, where, State.FOUND, what, "`backfill run`, then `backfill verify`")
    record = found[0]
    waiting = record.counts.get(Count.NOT_DUE, 0) + record.counts.get(Count.WITHOUT_TIME, 0)
    if waiting:
        what = (
            f"the column stays, and {waiting:,} of its values are raw, as the plan wants until they are due"
        )
        return Finding(Depth.CATALOG, where, State.FOUND, what, NOT_DUE)
    if kept := record.counts.get(Count.KEPT_UNREADABLE, 0):
        what = f"the column stays, with {kept:,} texts that are no address, and may hold one"
        return Finding(Depth.CATALOG, where, State.UNPROVED, what, 'unreadable = "nothing", in the plan')
    what = f"the column stays; no value of it was raw on {record.finished:%Y-%m-%d %H:%M %Z}"
    return Finding(Depth.CATALOG, where, State.GONE, what)


def _table(connection: Connection, part: RawColumn, column: str) -> Iterator[Finding]:
    where = f"{part.name}.{column}"
    if not rows(connection, sql.SQL("select 1 where to_regclass(%s) is not null"), (quoted_table(part),)):
        yield Finding(Depth.CATALOG, where, State.NOTE, "there is no such table here")
        return
    old = names.before(part)
    if has_column(connection, old, column):
        what = "the table that a shadow copy replaced is still there, with the column"
        fix = f"`backfill cutover --finish {escaping.word(part.label)}`"
        yield Finding(Depth.CATALOG, f"{old.name}.{column}", State.FOUND, what, fix)
    if has_column(connection, part, column):
        yield Finding(Depth.CATALOG, where, State.FOUND, "the column is still there", DROP)
        return
    parts = {
        "table": regclass(part),
        "word": sql.Literal(rf"\m{column}\M"),
        "table_word": sql.Literal(rf"\m{part.table}\M"),
    }
    left = [what for (what,) in rows(connection, ON_TABLE.format(**parts))]
    if rows(connection, STALE, (part.schema_, part.table, column))[0][0]:
        left.append("statistics")
    if left:
        fix = "drop or change it: a trigger that names a dropped column fails every INSERT"
        yield Finding(Depth.CATALOG, where, State.FOUND, f"still named by {', '.join(left)}", fix)
    else:
        yield Finding(
            Depth.CATALOG, where, State.GONE, "no column, constraint, index, trigger, rule or policy"
        )
    others = [what for (what,) in rows(connection, ELSEWHERE.format(**parts))]
    if others:
        what = f"named beside the table by {', '.join(others)}"
        yield Finding(Depth.CATALOG, where, State.NOTE, what, "see whether it still means this column")
