"""Table definition: everything that hangs on a table, as the statements that will hang it on its copy.

Definitions are PostgreSQL's own words, with every name qualified: run after the swap, they mean the
copy, because it bears the name. What is not listed here is found by its dependency and refused.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.quoting import regclass
from backfill.plan import Job

# Under our search_path (database/session.py) pg_get_… names every schema.


@dataclass(frozen=True)
class Column:
    """A column that the copy keeps."""

    name: str
    generated: bool
    settings: tuple[str, ...]  # ALTER COLUMN clauses that LIKE does not copy


@dataclass(frozen=True)
class Index:
    """An index, and the constraint that stands on it, if any."""

    oid: int
    name: str
    unique: str  # "unique " or ""
    rest: str  # from USING on
    constraint: str | None  # its name
    constraint_type: str | None  # p, u, x
    definition: str | None  # of the constraint
    attributes: str  # DEFERRABLE …
    comment: str | None


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of the table, or one that points at it."""

    table: str  # quoted and qualified
    name: str
    definition: str
    valid: bool


@dataclass(frozen=True)
class TableDefinition:
    """What the copy has to have. Statements with a fixed text run after the swap."""

    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    outgoing: tuple[ForeignKey, ...]
    incoming: tuple[ForeignKey, ...]
    storage: tuple[str, ...]  # reloptions, toast ones with their prefix
    unlogged: bool
    owner: str
    statistics: tuple[tuple[str, str], ...]  # qualified name, name
    identities: tuple[tuple[str, str], ...]  # column, sequence
    publications: tuple[str, ...]
    after_swap: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Changes with whatever somebody else changes on the table."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_definition(connection: Connection, job: Job) -> TableDefinition:
    """The table's definition as it stands."""
    ask = Asker(connection, job)
    ((owner, persistence),) = ask(
        "select quote_ident(pg_get_userbyid(relowner)), relpersistence from pg_class where oid = {table}"
    )
    return TableDefinition(
        columns=tuple(Column(name, bool(made), tuple(s)) for name, made, s in ask(COLUMNS)),
        indexes=tuple(Index(*row) for row in ask(INDEXES)),
        outgoing=tuple(ForeignKey(*row) for row in ask(FOREIGN_KEYS + OUTGOING)),
        incoming=tuple(ForeignKey(*row) for row in ask(FOREIGN_KEYS + INCOMING)),
        storage=tuple(option for (option,) in ask(STORAGE)),
        unlogged=persistence == "u",
        owner=owner,
        statistics=tuple((whole, name) for whole, name in ask(STATISTICS)),
        identities=tuple((column, sequence) for column, sequence in ask(IDENTITIES)),
        publications=tuple(name for (name,) in ask(PUBLICATIONS)),
        after_swap=tuple(text for query in AFTER_SWAP for (text,) in ask(query)),
    )


class Asker:
    """Runs queries about one table."""

    def __init__(self, connection: Connection, job: Job) -> None:
        self._connection = connection
        oid = regclass(job)
        self._names = {
            "table": oid,
            "name": sql.Literal(job.table),
            "raw": sql.SQL(
                "(select attnum from pg_attribute where attrelid = {} and attname = {} and not attisdropped)"
            ).format(oid, sql.Literal(job.raw)),
            "whole": sql.SQL(
                "(select format('%I.%I', nspname, relname) from pg_class join pg_namespace as n"
                " on n.oid = relnamespace where pg_class.oid = {})"
            ).format(oid),
        }

    def __call__(self, query: str) -> list[tuple[Any, ...]]:
        return rows(self._connection, sql.SQL(query).format(**self._names))


COLUMNS = """
    select attname, attgenerated <> '',
           array_remove(array[
               case when attstattarget >= 0 then format('alter column %I set statistics %s', attname, attstattarget) end,
               case when attoptions is not null then
                   format('alter column %I set (%s)', attname, array_to_string(attoptions, ', ')) end
           ], null)
      from pg_attribute
     where attrelid = {table} and attnum > 0 and not attisdropped and attnum <> {raw}
     order by attnum
"""

# An index that names the raw column goes with it, as it would with DROP COLUMN.
INDEXES = """
    select i.indexrelid::bigint, c.relname, case when i.indisunique then 'unique ' else '' end,
           substring(pg_get_indexdef(i.indexrelid)
                     from strpos(pg_get_indexdef(i.indexrelid), ' ON ' || {whole} || ' ') + length(' ON ' || {whole} || ' ')),
           con.conname, con.contype, pg_get_constraintdef(con.oid),
           case when con.condeferrable then ' deferrable' else '' end
               || case when con.condeferred then ' initially deferred' else '' end,
           obj_description(i.indexrelid, 'pg_class')
      from pg_index as i
      join pg_class as c on c.oid = i.indexrelid
      left join pg_constraint as con on con.conindid = i.indexrelid and con.contype in ('p', 'u', 'x')
           and con.conrelid = i.indrelid
     where i.indrelid = {table}
       and not exists (select from pg_depend where classid = 'pg_class'::regclass and objid = i.indexrelid
                          and refclassid = 'pg_class'::regclass and refobjid = i.indrelid and refobjsubid = {raw})
       and not exists (select from pg_depend where classid = 'pg_constraint'::regclass and objid = con.oid
                          and refclassid = 'pg_class'::regclass and refobjid = i.indrelid and refobjsubid = {raw})
     order by con.contype is distinct from 'p', c.relname
"""

FOREIGN_KEYS = """
    select format('%I.%I', n.nspname, c.relname), con.conname, pg_get_constraintdef(con.oid), con.convalidated
      from pg_constraint as con
      join pg_class as c on c.oid = con.conrelid join pg_namespace as n on n.oid = c.relnamespace
"""
OUTGOING = " where con.contype = 'f' and con.conrelid = {table} order by con.conname"
INCOMING = """ where con.contype = 'f' and con.confrelid = {table} and con.conrelid <> {table}
    and con.conparentid = 0 order by 1, 2"""

STORAGE = """
    select unnest(reloptions) from pg_class where oid = {table}
    union all
    select 'toast.' || unnest(toast.reloptions)
      from pg_class as c join pg_class as toast on toast.oid = c.reltoastrelid where c.oid = {table}
"""

STATISTICS = """
    select format('%I.%I', nspname, stxname), stxname
      from pg_statistic_ext join pg_namespace as n on n.oid = stxnamespace
     where stxrelid = {table} and not {raw} = any (stxkeys) order by 1
"""

IDENTITIES = """
    select a.attname, d.objid::regclass::text
      from pg_attribute as a
      join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid
           and d.refobjsubid = a.attnum and d.classid = 'pg_class'::regclass and d.deptype = 'i'
     where a.attrelid = {table} and a.attidentity <> '' order by 1
"""

PUBLICATIONS = """
    select quote_ident(p.pubname) from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid
     where r.prrelid = {table} order by 1
"""

AFTER_SWAP = (
    # Grants; the owner's own and PUBLIC's too, since either may have been revoked.
    """
    select format('grant %s on table %s to %s%s', privilege_type, {whole},
                  case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
                  case when is_grantable then ' with grant option' else '' end)
      from pg_class as c, aclexplode(c.relacl) where c.oid = {table} and grantee <> c.relowner order by 1
    """,
    """
    select format('grant %s (%I) on table %s to %s%s', privilege_type, attname, {whole},
                  case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
                  case when is_grantable then ' with grant option' else '' end)
      from pg_attribute as a, aclexplode(a.attacl)
     where a.attrelid = {table} and a.attnum > 0 and not a.attisdropped and a.attnum <> {raw} order by 1
    """,
    # Triggers, in the state in which they are.
    """
    select pg_get_triggerdef(oid) from pg_trigger
     where tgrelid = {table} and not tgisinternal and tgname !~ '^zz_backfill_note' order by tgname
    """,
    """
    select format('alter table %s %s trigger %I', {whole},
                  case tgenabled when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always' end, tgname)
      from pg_trigger
     where tgrelid = {table} and not tgisinternal and tgname !~ '^zz_backfill_note' and tgenabled <> 'O'
     order by tgname
    """,
    """
    select format('comment on trigger %I on %s is %L', tgname, {whole}, obj_description(oid, 'pg_trigger'))
      from pg_trigger
     where tgrelid = {table} and not tgisinternal and obj_description(oid, 'pg_trigger') is not null order by tgname
    """,
    # Row security.
    """
    select format('create policy %I on %s as %s for %s to %s%s%s', polname, {whole},
                  case when polpermissive then 'permissive' else 'restrictive' end,
                  case polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                              when 'd' then 'delete' else 'all' end,
                  (select string_agg(case when role = 0 then 'public' else quote_ident(pg_get_userbyid(role)) end, ', ')
                     from unnest(polroles) as role),
                  ' using (' || pg_get_expr(polqual, polrelid) || ')',
                  ' with check (' || pg_get_expr(polwithcheck, polrelid) || ')')
      from pg_policy where polrelid = {table} order by polname
    """,
    """
    select format('comment on policy %I on %s is %L', polname, {whole}, obj_description(oid, 'pg_policy'))
      from pg_policy where polrelid = {table} and obj_description(oid, 'pg_policy') is not null order by polname
    """,
    """
    select format('alter table %s enable row level security', {whole})
      from pg_class where oid = {table} and relrowsecurity
    """,
    """
    select format('alter table %s force row level security', {whole})
      from pg_class where oid = {table} and relforcerowsecurity
    """,
    # Which rows a subscriber is told.
    """
    select case relreplident when 'f' then format('alter table %s replica identity full', {whole})
                             when 'n' then format('alter table %s replica identity nothing', {whole})
                             else format('alter table %s replica identity using index %I', {whole},
                                 (select relname from pg_class join pg_index on indexrelid = oid
                                   where indrelid = {table} and indisreplident)) end
      from pg_class where oid = {table} and relreplident <> 'd'
    """,
    """
    select format('alter table %s cluster on %I', {whole}, c.relname)
      from pg_index join pg_class as c on c.oid = indexrelid where indrelid = {table} and indisclustered
    """,
    """
    select format('alter publication %I add table only %s', p.pubname, {whole})
      from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid
     where r.prrelid = {table} order by 1
    """,
    # Comments on the table, and on constraints other than those that LIKE copies.
    """
    select format('comment on table %s is %L', {whole}, obj_description({table}, 'pg_class'))
     where obj_description({table}, 'pg_class') is not null
    """,
    """
    select format('comment on constraint %I on %s is %L', conname, {whole}, obj_description(oid, 'pg_constraint'))
      from pg_constraint
     where conrelid = {table} and contype in ('p', 'u', 'x', 'f') and obj_description(oid, 'pg_constraint') is not null
     order by conname
    """,
    # Statistics objects: their data come with the ANALYZE that follows.
    """
    select pg_get_statisticsobjdef(oid) from pg_statistic_ext
     where stxrelid = {table} and not {raw} = any (stxkeys) order by stxname
    """,
    """
    select format('comment on statistics %I.%I is %L', nspname, stxname, obj_description(s.oid, 'pg_statistic_ext'))
      from pg_statistic_ext as s join pg_namespace as n on n.oid = stxnamespace
     where stxrelid = {table} and not {raw} = any (stxkeys) and obj_description(s.oid, 'pg_statistic_ext') is not null
     order by stxname
    """,
    # Sequences that belong to a column, and views: replaced in place, so that what stands on them stays.
    """
    select format('alter sequence %s owned by %s.%I', d.objid::regclass, {whole}, a.attname)
      from pg_depend as d
      join pg_class as s on s.oid = d.objid and s.relkind = 'S'
      join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
     where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = {table}
       and d.deptype = 'a' and a.attnum <> {raw} order by 1
    """,
    """
    select distinct format('create or replace view %I.%I%s as %s', n.nspname, v.relname,
                           ' with (' || array_to_string(v.reloptions, ', ') || ')', pg_get_viewdef(v.oid))
      from pg_depend as d
      join pg_rewrite as r on r.oid = d.objid
      join pg_class as v on v.oid = r.ev_class and v.relkind = 'v'
      join pg_namespace as n on n.oid = v.relnamespace
     where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = {table}
     order by 1
    """,
)
