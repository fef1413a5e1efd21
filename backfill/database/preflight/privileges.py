"""Privileges: what this role needs on tables, sequences, functions and schemas."""

from collections.abc import Iterator

from backfill.database.preflight.finding import Finding, blocks
from backfill.database.preflight.target import Target
from backfill.plan import Addresses, Discard

TABLE = blocks("missing-privilege")
SCHEMA = blocks("schema-usage")
SEQUENCE = blocks("sequence-usage")
FUNCTION = blocks("function-execute")

HELD = """
    select current_user, has_table_privilege(%(table)s::oid, %(privilege)s),
           case when %(privilege)s <> 'DELETE'  -- which no column has
                then has_any_column_privilege(%(table)s::oid, %(privilege)s) else false end
"""
USAGE = """
    select current_user, n.nspname, has_schema_privilege(n.oid, 'usage')
      from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = %(table)s
"""
# What a default calls and draws from, of columns that an INSERT of ours leaves out.
SEQUENCES = """
    select distinct format('%%I.%%I', n.nspname, s.relname), s.relname
      from pg_attrdef as def
      join pg_depend as d on d.classid = 'pg_attrdef'::regclass and d.objid = def.oid and d.refclassid = 'pg_class'::regclass
      join pg_class as s on s.oid = d.refobjid and s.relkind = 'S'
      join pg_namespace as n on n.oid = s.relnamespace
     where def.adrelid = %(table)s
       and case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'usage, update') end
     order by 1
"""
FUNCTIONS = """
    select distinct p.oid::regprocedure::text, p.proname
      from pg_attrdef as def
      join pg_depend as d on d.classid = 'pg_attrdef'::regclass and d.objid = def.oid and d.refclassid = 'pg_proc'::regclass
      join pg_proc as p on p.oid = d.refobjid
     where def.adrelid = %(table)s and not has_function_privilege(p.oid, 'execute')
     order by 1
"""


def check(target: Target) -> Iterator[Finding]:
    """Whole tables: ``LOCK TABLE`` and block ranges (``ctid``) take no privilege on single columns."""
    part = target.part
    ((user, schema, usable),) = target.ask(USAGE)
    if not usable:
        yield SCHEMA(
            schema,
            f"Role {user} lacks USAGE on schema {schema}.",
            f"Grant it: grant usage on schema {schema} to {user};",
        )
    missing, single = [], []
    for privilege in _needed(target):
        ((_, held, columns),) = target.ask(HELD, privilege=privilege)
        if not held:
            missing.append(privilege)
            if columns:
                single.append(privilege)
    if missing:
        listed = ", ".join(missing)
        only = (
            f" It has {', '.join(single)} on single columns, which is not enough: block ranges and locks need the table's."
            if single
            else ""
        )
        yield TABLE(
            target.subject,
            f"Role {user} lacks {listed} on {part.name}.{only}",
            f"Grant it: grant {listed.lower()} on {part.name} to {user};",
        )
    if target.inserts:
        for sequence, name in target.ask(SEQUENCES):
            yield SEQUENCE(
                target.column(name),
                f"Role {user} lacks USAGE on sequence {sequence}, from which new rows of {part.name} draw.",
                f"Grant it: grant usage on sequence {sequence} to {user};",
            )
        for function, name in target.ask(FUNCTIONS):
            yield FUNCTION(
                target.column(name),
                f"Role {user} lacks EXECUTE on {function}, which a default of {part.name} calls.",
                f"Grant it: grant execute on function {function} to {user};",
            )


def _needed(target: Target) -> tuple[str, ...]:
    if not target.writes or isinstance(target.part, Discard):
        return ("SELECT",)
    if isinstance(target.part, Addresses):
        return ("SELECT", "INSERT", "UPDATE")
    return ("SELECT", "UPDATE", "DELETE") if target.deletes else ("SELECT", "UPDATE")
