"""Definition: what preflight looked at on a table, as one digest that a batch can compare.

Each batch asks for it anew under its lock on the table, which keeps out new triggers, rules, constraints and policies
until it commits. Plain indexes and comments are left out: they change nothing of what a batch does.
"""

from psycopg2 import sql

# {table}: its number in the catalog. Functions of triggers by their text: somebody may replace one any time.
DEFINITION = sql.SQL("""
    (select md5(string_agg(line, E'\\n' order by line))
       from (select concat_ws('|', 'table', relkind, relispartition, relpersistence, relhasrules, relrowsecurity,
                              relforcerowsecurity, row_security_active(oid), relreplident, relowner,
                              has_table_privilege(oid, 'select'), has_table_privilege(oid, 'update')) as line
               from pg_class where oid = {table}
             union all
             select concat_ws('|', 'column', attname, atttypid, atttypmod, attnotnull, attgenerated, attidentity, attcollation)
               from pg_attribute where attrelid = {table} and attnum > 0 and not attisdropped
             union all
             select concat_ws('|', 'trigger', tgname, tgenabled, tgtype, tgattr::text, tgqual is null, tgfoid, md5(p.prosrc),
                              p.prosecdef, p.proconfig::text)
               from pg_trigger join pg_proc as p on p.oid = tgfoid where tgrelid = {table} and not tgisinternal
             union all
             select concat_ws('|', 'constraint', conname, contype, convalidated, conkey::text)
               from pg_constraint where conrelid = {table}
             union all
             select concat_ws('|', 'rule', rulename, ev_type, ev_enabled) from pg_rewrite where ev_class = {table}
             union all
             select concat_ws('|', 'policy', polname) from pg_policy where polrelid = {table}
             union all
             select concat_ws('|', 'key', indexrelid, indisvalid, indisreplident)
               from pg_index where indrelid = {table} and (indisunique or indisexclusion)
             union all
             select concat_ws('|', 'inherits', inhrelid, inhparent) from pg_inherits
              where inhrelid = {table} or inhparent = {table}
             union all
             select concat_ws('|', 'published', prpubid) from pg_publication_rel where prrelid = {table}
             union all
             select concat_ws('|', 'all published', oid) from pg_publication where puballtables and pubupdate) as lines)
""")
