"""Overloads: functions and operators of other roles that the application's path puts beside built-in ones.

Statements of ours look up nothing by that path. The application's triggers, CHECKs and index functions do, and they
run in our session, with our rights: a better-typed ``lower(varchar)`` is called in place of the built-in one.
"""

from collections.abc import Iterator, Sequence

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.preflight.finding import Finding, changes
from backfill.database.search_path import under_application_path, under_own_path
from backfill.raw_column import Table

OVERLOAD = changes("overloads-built-in")

# Trusted: this role and those it is a member of by name, superusers, and owners of the database and of the plan's tables,
# whose triggers run with our rights anyway.
OVERLOADS = sql.SQL("""
    with recursive member (oid) as (
        select oid from pg_roles where rolname = current_user
        union
        select m.roleid from member join pg_auth_members as m on m.member = member.oid
    ),
    trusted (oid) as (
        select oid from member
        union select oid from pg_roles where rolsuper
        union select datdba from pg_database where datname = current_database()
        union select c.relowner from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
               where n.nspname || '.' || c.relname = any (%(tables)s)
    ),
    place as (select oid, nspname from pg_namespace where nspname = any (%(path)s) and nspname <> 'pg_catalog')
    select 'Function ' || p.oid::regprocedure, place.nspname || '.' || p.proname, pg_get_userbyid(p.proowner)
      from place join pg_proc as p on p.pronamespace = place.oid
     where p.proowner not in (select oid from trusted)
       and exists (select from pg_proc as built where built.pronamespace = 'pg_catalog'::regnamespace
                      and built.proname = p.proname)
    union
    select 'Operator ' || o.oid::regoperator, place.nspname || '.' || o.oprname, pg_get_userbyid(o.oprowner)
      from place join pg_operator as o on o.oprnamespace = place.oid
     where o.oprowner not in (select oid from trusted)
       and exists (select from pg_operator as built where built.oprnamespace = 'pg_catalog'::regnamespace
                      and built.oprname = o.oprname)
     order by 1
""")


def check(connection: Connection, parts: Sequence[Table]) -> Iterator[Finding]:
    """By name and owner."""
    under_application_path(connection)
    ((path,),) = rows(connection, sql.SQL("select pg_catalog.current_schemas(true)::pg_catalog.text[]"))
    under_own_path(connection)
    tables = [f"{part.schema_}.{part.table}" for part in parts]
    for what, subject, owner in rows(connection, OVERLOADS, {"path": path, "tables": tables}):
        yield OVERLOAD(
            subject,
            f"{what}, owned by {owner}, lies in the search_path of this role under the name of a built-in one: "
            "triggers and CHECKs of the application that run in our session may call it with our rights.",
            "Drop it, or take its schema out of the path: alter role … set search_path = …; or look at it, and accept it.",
        )
