"""Catalog: texts that no column of the application holds: labels, comments, defaults, definitions, statistics."""

from collections.abc import Iterator, Set

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.scan.patterns import PREFILTER, hits
from backfill.scan.place import Found

# What, whose, and the text. Objects of extensions and of PostgreSQL itself are not the application's.
TEXTS = sql.SQL("""
    with own (id) as (select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
                         and (%(schema)s is null or nspname = %(schema)s)),
    shown (what, place, said) as (
        select 'enum label', typname, enumlabel from pg_enum join pg_type as t on t.oid = enumtypid where typnamespace in (select id from own)
         union all
        select 'comment', c.relname || coalesce('.' || a.attname, ''), description
          from pg_description as d join pg_class as c on d.classoid = 'pg_class'::regclass and c.oid = objoid
          left join pg_attribute as a on a.attrelid = c.oid and a.attnum = objsubid and objsubid > 0 where relnamespace in (select id from own)
         union all
        select 'comment', proname, description
          from pg_description as d join pg_proc as p on d.classoid = 'pg_proc'::regclass and p.oid = objoid where pronamespace in (select id from own)
         union all
        select 'comment', datname, description from pg_shdescription join pg_database as d on d.oid = objoid and classoid = 'pg_database'::regclass
         where datname = current_database()
         union all
        select 'default', c.relname || '.' || a.attname, pg_get_expr(adbin, adrelid)
          from pg_attrdef join pg_class as c on c.oid = adrelid join pg_attribute as a on a.attrelid = adrelid and a.attnum = adnum
         where relnamespace in (select id from own)
         union all
        select case relkind when 'v' then 'view' else 'materialized view' end || ' definition', relname, pg_get_viewdef(oid)
          from pg_class where relkind in ('v', 'm') and relnamespace in (select id from own)
         union all
        select 'function body', p.proname, prosrc from pg_proc as p where pronamespace in (select id from own)
           and not exists (select from pg_depend where objid = p.oid and deptype = 'e')
         union all
        select 'constraint', conname, pg_get_constraintdef(oid) from pg_constraint where connamespace in (select id from own) and contype = 'c'
         union all
        select 'index definition', c.relname, pg_get_indexdef(indexrelid) from pg_index join pg_class as c on c.oid = indexrelid
         where relnamespace in (select id from own)
         union all
        select 'policy', polname, coalesce(pg_get_expr(polqual, polrelid), '') || coalesce(pg_get_expr(polwithcheck, polrelid), '') from pg_policy
         union all
        select 'statistics', tablename || '.' || attname, coalesce(most_common_vals::text, '') || ' ' || coalesce(histogram_bounds::text, '')
          from pg_stats where schemaname in (select nspname from pg_namespace where oid in (select id from own))
         union all
        select 'setting', coalesce(rolname, 'all roles'), array_to_string(setconfig, ' ')
          from pg_db_role_setting left join pg_roles as r on r.oid = setrole
         where setdatabase = (select oid from pg_database where datname = current_database()))
    select what, place, said from shown
     where said ~ {pattern} and (%(table)s is null or place = %(table)s or starts_with(place, %(table)s || '.'))
     order by 1, 2
""")


def search_catalog(
    connection: Connection, schema: str | None, table: str | None, prefixes: Set[int] = frozenset()
) -> Iterator[Found]:
    """A place for each object whose text holds something. *prefixes*: of pseudonyms."""
    found: dict[tuple[str, str], Found] = {}
    statement = TEXTS.format(pattern=sql.Literal(PREFILTER))
    for what, place, text in rows(connection, statement, {"schema": schema, "table": table}):
        one = found.setdefault((what, place), Found(f"{what} of {place}", what))
        one.seen, one.rows, one.matching, one.judged = (
            one.seen + 1,
            one.rows + 1,
            one.matching + 1,
            one.judged + 1,
        )
        one.judge(hits(text, prefixes))
    yield from (one for one in found.values() if one.sure + one.likely + one.unlikely)
