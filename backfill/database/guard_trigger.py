"""Guard trigger: its name, and a mark by which one knows that it was in place, as it is now, since a moment."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.database.quoting import regclass
from backfill.job_id import helper_name
from backfill.plan import DroppingJob

GUARD = "zz_backfill_guard"  # triggers fire in the order of their names: after whatever fills the row

# Which version of trigger and function, and of the two columns, the catalog has: disabled for a while, made anew, or with
# a column of another type, one of them has another xmin. NULL where it is not enabled; and where another trigger fires after it
# and may change what it let pass. All but {table}, a regclass, are literals.
MARK = """
    (select concat_ws('/', t.oid, t.xmin, p.oid, p.xmin, (
                   select string_agg(concat_ws('/', a.attnum, a.xmin), '/' order by a.attnum)
                     from pg_attribute as a where a.attrelid = t.tgrelid and a.attname in ({raw}, {result})))
       from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
      where t.tgrelid = {table} and t.tgname = {trigger} and t.tgenabled in ('O', 'A')
        and not exists (select from pg_trigger as after
                         where after.tgrelid = t.tgrelid and not after.tgisinternal and after.tgenabled <> 'D'
                           and after.tgname > t.tgname and after.tgtype & 3 = 3 and after.tgtype & 20 <> 0))
"""  # of each row, before; INSERT or UPDATE


def guard_trigger(job: DroppingJob) -> str:
    """What the guard of that job is called."""
    return helper_name(GUARD, job.raw, job.identity)


def guard_mark(connection: Connection, job: DroppingJob) -> str | None:
    """The mark, now."""
    names = {"raw": job.raw, "result": job.result, "trigger": guard_trigger(job)}
    literals = {name: sql.Literal(text) for name, text in names.items()}
    found: str | None = value(
        connection, sql.SQL("select {}").format(sql.SQL(MARK).format(table=regclass(job), **literals))
    )
    return found
