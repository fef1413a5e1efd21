"""Owners: whose objects the ledger's are.

A role with CREATE on the database may make the ledger's schema before us, with tables and triggers of its own: what
they do, they do with our rights. So every command asks who owns the schema and everything in it before it reads or
runs anything there. Trusted are this role, roles that it is a member of, and the owner that the operator names. What
the ledger says of itself counts for nothing. A superuser is a member of every role as far as pg_has_role() goes, so
memberships are read from the catalog.
"""

from sqlalchemy import Connection, text

from backfill.errors import LedgerUntrusted

# One SQL expression, since a script for psql carries it too: what is not trusted, by name and owner; NULL for nothing.
UNTRUSTED = """
    (with recursive space as (select * from pg_namespace where nspname = {schema}),
     member (oid) as (
         select oid from pg_roles where rolname = current_user
         union
         select m.roleid from member join pg_auth_members as m on m.member = member.oid
     ),
     trusted (oid) as (
         select oid from member union select oid from pg_roles where rolname = {owner}
     ),
     relation as (select * from pg_class where relnamespace = (select oid from space)),
     object (what, owner) as (
         select 'schema ' || nspname, nspowner from space
         union all
         select case relkind when 'S' then 'sequence ' when 'v' then 'view ' when 'm' then 'materialized view '
                             when 'f' then 'foreign table ' when 'c' then 'type ' else 'table ' end || relname, relowner
           from relation where relkind not in ('i', 'I', 't')
         union all
         select 'function ' || proname, proowner from pg_proc where pronamespace = (select oid from space)
         union all
         select 'type ' || typname, typowner from pg_type
          where typnamespace = (select oid from space) and typrelid = 0 and typelem = 0
         union all
         select 'operator ' || oprname, oprowner from pg_operator where oprnamespace = (select oid from space)
     ),
     found (what) as (
         select what || ', owned by ' || pg_get_userbyid(owner) from object
          where owner not in (select oid from trusted)
         union all
         select 'CREATE on schema ' || nspname || ', granted to '
                || case when grantee = 0 then 'PUBLIC' else pg_get_userbyid(grantee)::text end
           from space, aclexplode(nspacl)
          where privilege_type = 'CREATE' and grantee not in (select oid from trusted)
         union all
         select 'trigger ' || tgname || ' on ' || relname from pg_trigger join relation on relation.oid = tgrelid
          where not tgisinternal
         union all
         select 'rule ' || rulename || ' on ' || relname from pg_rewrite join relation on relation.oid = ev_class
          where rulename <> '_RETURN'
         union all
         select 'policy ' || polname || ' on ' || relname from pg_policy join relation on relation.oid = polrelid
         union all
         select 'row security on ' || relname from relation where relrowsecurity
     )
     select string_agg(what, '; ' order by what) from found)
"""


SHOWN = 10  # of what is not trusted: a message that can be read, whoever prepared a whole schema


def require_trusted_ledger(connection: Connection, schema: str, owner: str | None) -> None:
    """Raises ``LedgerUntrusted`` with everything that is not ours, before anything of it is read or run."""
    statement = text("select " + UNTRUSTED.format(schema=":schema", owner="cast(:owner as name)"))
    found = connection.execute(statement, {"schema": schema, "owner": owner}).scalar()
    if found is not None:
        each = found.split("; ")  # a name that holds it is cut: the count is of what is shown so
        more = f"; and {len(each) - SHOWN:,} more" if len(each) > SHOWN else ""
        raise LedgerUntrusted(schema=schema, found="; ".join(each[:SHOWN]) + more)
