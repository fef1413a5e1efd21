"""Raw keys: unique keys, foreign keys and indexes with a raw column in them that a job rewrites in place.

An application that goes on as before inserts the raw value again, beside its earlier result: what was unique is not
any more, and no conflict is found.
"""

from collections.abc import Iterator

from backfill.database.preflight.finding import Finding, blocks, note
from backfill.database.preflight.target import Target
from backfill.plan import InPlaceJob

UNIQUE = blocks("raw-in-unique-key")
FOREIGN_KEY = blocks("raw-in-foreign-key")
INDEXED = note("raw-in-index")

# The raw column, and what is generated from it.
DERIVED = """
    derived (number) as (
        select %(raw)s::int
        union
        select def.adnum::int from pg_attrdef as def
          join pg_attribute as a on a.attrelid = def.adrelid and a.attnum = def.adnum and a.attgenerated <> ''
          join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = def.adrelid
           and (d.classid = 'pg_attrdef'::regclass and d.objid = def.oid  -- the column itself, until PostgreSQL 14
                or d.classid = 'pg_class'::regclass and d.objid = def.adrelid and d.objsubid = def.adnum)
         where def.adrelid = %(table)s and d.refobjsubid = %(raw)s
    )
"""
# Of its key, its expressions (a whole row is column 0) or its predicate; a column that is only included is none of these.
INDEXES = """
    with {derived}
    select c.relname, i.indisunique or i.indisexclusion, i.indisprimary, i.indisexclusion
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = %(table)s
       and (exists (select from derived where number = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
            or not (i.indisunique or i.indisexclusion) and exists (select from derived where number = any (i.indkey::int2[]))
            or (i.indexprs is not null or i.indpred is not null)
               and (exists (select from pg_depend as d join derived on d.refobjsubid = derived.number
                             where d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid
                               and (d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                                    or d.classid = 'pg_constraint'::regclass
                                       and d.objid in (select con.oid from pg_constraint as con where con.conindid = i.indexrelid)))
                    or concat(i.indexprs::text, i.indpred::text) ~ ':varattno 0 '))
     order by 1
"""
FOREIGN_KEYS = """
    with {derived}
    select con.conname, con.conrelid = %(table)s and exists (select from derived where number = any (con.conkey)),
           con.conrelid::regclass::text, con.confrelid::regclass::text
      from pg_constraint as con
     where con.contype = 'f'
       and (con.conrelid = %(table)s and exists (select from derived where number = any (con.conkey))
            or con.confrelid = %(table)s and exists (select from derived where number = any (con.confkey)))
     order by 1
"""


def check(target: Target) -> Iterator[Finding]:
    """By name; what an index costs is told beside it."""
    job = target.part
    if not target.writes or not isinstance(job, InPlaceJob) or not target.raw_number:
        return
    indexes = []
    for name, unique, primary, exclusion in target.ask(INDEXES.format(derived=DERIVED)):
        if not unique:
            indexes.append(name)
            continue
        what = "Primary key" if primary else "Exclusion constraint" if exclusion else "Unique index"
        yield UNIQUE(
            target.column(name),
            f"{what} {name} of {job.name} has {job.raw} in it: a raw column that is part of a unique key is not supported "
            "by this version. An application that goes on as before inserts the address again, beside its earlier result.",
            f"Leave {job.raw} out of the plan; or, where no statement of the application needs it (an upsert does), drop {name}.",
        )
    for name, ours, table, other in target.ask(FOREIGN_KEYS.format(derived=DERIVED)):
        yield FOREIGN_KEY(
            target.column(name),
            f"Foreign key {name} ties {job.name}.{job.raw} to {other}."
            if ours
            else f"Foreign key {name} of {table} refers to {job.name}.{job.raw}.",
            "Both sides would have to change at once, which is not supported by this version. Drop it first.",
        )
    if indexes:
        yield INDEXED(
            target.column(job.raw),
            f"{job.name}.{job.raw} is in {'index' if len(indexes) == 1 else 'indexes'} {', '.join(indexes)}: no rewritten row is "
            "heap-only, so every index of the table gets an entry for it.",
            "Expect a slower run and larger indexes. Old entries keep raw addresses until they are vacuumed or erased.",
        )
