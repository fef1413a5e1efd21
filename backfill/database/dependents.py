"""Dependents: what goes with a column when it is dropped, and what keeps it from being dropped.

As DROP COLUMN … RESTRICT decides: what depends automatically goes along, whatever hangs on that goes too, and any
other dependence is an error. The same text is asked by preflight, by gates, and by the script for psql.
"""

# {table}: regclass; {column}: its name; {ledger}: our schema, whose triggers go with us, as does our CHECK.
# Rows: what (in words), name, goes (along). The column's own default, and what belongs to something named already, is left out.
DEPENDENTS = """
    with recursive gone (classid, objid, objsubid) as (
        select 'pg_class'::regclass::oid, a.attrelid, a.attnum::int from pg_attribute as a
         where a.attrelid = {table} and a.attname = {column} and not a.attisdropped
        union
        select d.classid, d.objid, d.objsubid
          from gone join pg_depend as d
            on d.refclassid = gone.classid and d.refobjid = gone.objid and gone.objsubid in (0, d.refobjsubid)
         where d.deptype in ('a', 'i', 'P', 'S')
    ),
    kept as (
        select distinct d.classid, d.objid, d.objsubid
          from gone join pg_depend as d
            on d.refclassid = gone.classid and d.refobjid = gone.objid and gone.objsubid in (0, d.refobjsubid)
         where d.deptype = 'n' and (d.classid, d.objid) not in (select classid, objid from gone where objsubid = 0)
    ),
    named as (
        select con.conname::text as name, 'constraint ' || con.conname || ' (' || pg_get_constraintdef(con.oid) || ')' as what, true as goes
          from gone join pg_constraint as con on gone.classid = 'pg_constraint'::regclass and con.oid = gone.objid
         where con.contype <> 'n' and con.conname !~ '^backfill_covered'
        union
        select c.relname, case c.relkind when 'S' then 'sequence ' else 'index ' end || c.relname, true
          from gone join pg_class as c on gone.classid = 'pg_class'::regclass and gone.objsubid = 0 and c.oid = gone.objid
         where c.relkind in ('i', 'I', 'S')
           and not exists (select from pg_constraint as con where con.conindid = c.oid and con.contype in ('p', 'u', 'x'))
        union
        select a.attname, 'generated column ' || a.attname, true  -- until PostgreSQL 14; later ones keep the column
          from gone join pg_attribute as a
            on gone.classid = 'pg_class'::regclass and a.attrelid = gone.objid and a.attnum = gone.objsubid
         where a.attrelid = {table} and a.attname <> {column} and a.attnum > 0
        union
        select s.stxname, 'statistics ' || s.stxname, true
          from gone join pg_statistic_ext as s on gone.classid = 'pg_statistic_ext'::regclass and s.oid = gone.objid
        union
        select case kept.classid
                   when 'pg_rewrite'::regclass then
                       (select case when r.rulename = '_RETURN' then '' else r.rulename || ' on ' end || c.oid::regclass::text
                          from pg_rewrite as r join pg_class as c on c.oid = r.ev_class where r.oid = kept.objid)
                   when 'pg_trigger'::regclass then (select tgname::text from pg_trigger where oid = kept.objid)
                   else pg_describe_object(kept.classid, kept.objid, kept.objsubid) end,
               case kept.classid
                   when 'pg_rewrite'::regclass then
                       (select case when r.rulename <> '_RETURN' then 'rule ' || r.rulename || ' on '
                                    when c.relkind = 'm' then 'materialized view ' else 'view ' end || c.oid::regclass::text
                          from pg_rewrite as r join pg_class as c on c.oid = r.ev_class where r.oid = kept.objid)
                   when 'pg_attrdef'::regclass then
                       (select 'generated column ' || a.attname from pg_attrdef as def
                          join pg_attribute as a on a.attrelid = def.adrelid and a.attnum = def.adnum where def.oid = kept.objid)
                   else pg_describe_object(kept.classid, kept.objid, kept.objsubid) end,
               false
          from kept
         where not (kept.classid = 'pg_trigger'::regclass
                    and exists (select from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
                                  join pg_namespace as n on n.oid = p.pronamespace
                                 where t.oid = kept.objid and n.nspname = {ledger} and t.tgname ~ '^z[yz]_backfill_'))
    )
    select what, name, goes from named
"""

# Triggers of the table whose function names the column in its text. No dependence is recorded for a text: the drop passes,
# and the first statement that fires the trigger fails ("record new has no field"). Rows: what (in words), name.
NAMERS = r"""
    select 'trigger ' || t.tgname || ', whose function ' || quote_ident(n.nspname) || '.' || quote_ident(p.proname)
           || ' names the column' as what, t.tgname::text as name
      from pg_trigger as t
      join pg_proc as p on p.oid = t.tgfoid
      join pg_namespace as n on n.oid = p.pronamespace
     where t.tgrelid = {table} and not t.tgisinternal
       and not (n.nspname = {ledger} and t.tgname ~ '^z[yz]_backfill_')
       and p.prosrc ~* ('(^|[^\w$])' || regexp_replace({column}, '(\W)', '\\\1', 'g') || '($|[^\w$])')
"""
