"""Place column: what stands on the column, or the columns by key, into which the place of an address goes, beside what becomes of a value.

Nothing of a place is tried here: what computes something from it, or asks something of it, waits until somebody who knows
it accepts it. NOT NULL is no obstacle: no row gets NULL there.
"""

from collections.abc import Iterator

from backfill.database.preflight.columns import TYPMOD_EXTRA
from backfill.database.preflight.constraints import ON_WRITTEN, OURS
from backfill.database.preflight.finding import Finding, blocks, changes, note
from backfill.database.preflight.target import Target
from backfill.plan import GeoKey, Job, Place

UNIQUE = blocks("geo-in-unique-key")
COMPUTED = changes("computed-from-geo")
INDEXED = note("geo-in-index")
FOREIGN_KEY = blocks("geo-in-foreign-key")
TOO_SHORT = blocks("geo-too-short")

# Of these every value has so many characters. A name that is too long costs its field, and no more.
LENGTHS = {GeoKey.COUNTRY_CODE: 2, GeoKey.COUNTRY_CODE3: 3, GeoKey.CONTINENT_CODE: 2}
FOREIGN_KEYS = """
    select con.conname, con.confrelid::regclass::text from pg_constraint as con
     where con.conrelid = %(table)s and con.contype = 'f' and con.conkey && %(geo)s::int2[]
     order by 1
"""

# A column that is only included (INCLUDE) is no part of what is unique.
INDEXES = """
    select c.relname,
           (i.indisunique or i.indisexclusion)
           and ((i.indkey::int2[])[0:i.indnkeyatts - 1] && %(geo)s::int2[]
                or concat(i.indexprs::text, i.indpred::text) ~ concat(':varattno (0|', array_to_string(%(geo)s::int2[], '|'), ') ')),
           not i.indkey::int2[] && %(geo)s::int2[]
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = %(table)s
       and (i.indkey::int2[] && %(geo)s::int2[]
            or exists (select from pg_depend as d
                        where d.refclassid = 'pg_class'::regclass and d.refobjid = %(table)s and d.refobjsubid = any (%(geo)s::int4[])
                          and (d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                               or d.classid = 'pg_constraint'::regclass
                                  and d.objid in (select con.oid from pg_constraint as con where con.conindid = i.indexrelid)))
            or concat(i.indexprs::text, i.indpred::text) ~ ':varattno 0 ')  -- a whole row
     order by 1
"""
CHECKS = """
    select con.conname, pg_get_expr(con.conbin, con.conrelid)
      from pg_constraint as con
     where con.conrelid = %(table)s and con.contype = 'c' and con.conname !~ %(ours)s
       and (con.conkey && %(geo)s::int2[] or con.conbin::text ~ ':varattno 0 ')
       and coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true)
     order by 1
"""
# Until PostgreSQL 14 it is the column that depends.
GENERATED = """
    select a.attname, pg_get_expr(def.adbin, def.adrelid)
      from pg_attrdef as def
      join pg_attribute as a on a.attrelid = def.adrelid and a.attnum = def.adnum and a.attgenerated <> ''
     where def.adrelid = %(table)s and a.attnum <> all (%(geo)s::int2[])
       and exists (select from pg_depend as d
                    where (d.classid = 'pg_attrdef'::regclass and d.objid = def.oid
                           or d.classid = 'pg_class'::regclass and d.objid = def.adrelid and d.objsubid = def.adnum)
                      and d.refobjsubid <> def.adnum
                      and d.refclassid = 'pg_class'::regclass and d.refobjid = %(table)s and d.refobjsubid = any (%(geo)s::int4[]))
     order by 1
"""


def check(target: Target) -> Iterator[Finding]:
    """By name, where a job has such a column."""
    job = target.part
    if not target.writes or not isinstance(job, Job) or job.place is None:
        return
    columns = [target.columns[name] for name in job.place.columns if name in target.columns]
    if not columns:
        return
    geo = [column.number for column in columns]
    yield from _widths(target, job, job.place)
    for constraint, other in target.ask(FOREIGN_KEYS, geo=geo):
        yield FOREIGN_KEY(
            target.column(constraint),
            f"Foreign key {constraint} ties {job.name} to {other} by a column for the place, and may refuse one.",
            f"Name another column in the plan, or drop {constraint}.",
        )
    indexes = []
    for index, unique, computed in target.ask(INDEXES, geo=geo):
        if unique:
            yield UNIQUE(
                target.column(index),
                f"Unique index or exclusion constraint {index} of {job.name} has {job.place} (geo) in it: rows of one place would meet there.",
                "Name another column for the place in the plan.",
            )
        elif computed:
            yield COMPUTED(
                target.column(index),
                f"Index {index} of {job.name} computes something from {job.place} (geo), and may fail for a place.",
                "Look whether it can be computed from every place, or from one that lacks a key; then accept it.",
            )
        else:
            indexes.append(index)
    for constraint, expression in target.ask(CHECKS, geo=geo, ours=OURS):
        yield ON_WRITTEN(
            target.column(constraint),
            f"CHECK {constraint} of {job.name} has {job.place} (geo) in it, and may refuse a place: {expression}.",
            "Look whether it holds with every place, or with one that lacks a key; then accept it.",
        )
    for column, expression in target.ask(GENERATED, geo=geo):
        yield COMPUTED(
            target.column(column),
            f"Generated column {job.name}.{column} is computed from {job.place} (geo), and may fail for a place: {expression}.",
            "Look whether it can be computed from every place, or from one that lacks a key; then accept it.",
        )
    if indexes:
        yield INDEXED(
            target.column(columns[0].name),
            f"{job.place} of {job.name} (geo) is in {'index' if len(indexes) == 1 else 'indexes'} {', '.join(indexes)}: no row that gets a place is heap-only, "
            "so every index of the table gets an entry for it.",
            "Expect a slower run and larger indexes.",
        )


def _widths(target: Target, job: Job, place: Place) -> Iterator[Finding]:
    for key, name in place.by_key:
        column = target.columns.get(name)
        if column is None or key not in LENGTHS or column.typmod < TYPMOD_EXTRA:
            continue
        if column.typmod - TYPMOD_EXTRA < LENGTHS[key]:
            yield TOO_SHORT(
                target.column(name),
                f"Column {job.name}.{name} is {column.type}, and a {key} has {LENGTHS[key]} characters.",
                f"alter table {job.name} alter column {name} type text;",
            )
