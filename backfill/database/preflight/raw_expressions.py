"""Raw expressions: CHECKs, domains, generated columns and indexes that compute something from a raw column, or from
the column into which hashes go.

Whether they take what a job in place writes is tried with samples, in queries that write nothing. What calls a
function of the application is not tried, as with triggers: it waits until somebody who knows it accepts it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from psycopg2 import sql

from backfill.database.blocks import Range
from backfill.database.columns import column_type
from backfill.database.connection import driver, execute, value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.preflight import columns, privileges, raw_type, relation
from backfill.database.preflight.columns import DOMAIN
from backfill.database.preflight.constraints import ON_WRITTEN, OURS
from backfill.database.preflight.finding import Finding, blocks, changes
from backfill.database.preflight.sample_results import samples
from backfill.database.preflight.target import Column, Target
from backfill.database.quoting import table
from backfill.plan import InPlaceJob, IntoJob

REFUSED = blocks("refuses-results")
GENERATED = changes("generated-from-raw")
COMPUTED = changes("index-computed-from-raw")

# Without these no sample is tried: blocked, for a reason that says more.
NEEDS = frozenset(
    kind.code
    for kind in (raw_type.TYPE, columns.NO_COLUMN, privileges.TABLE, privileges.SCHEMA, relation.ROW_SECURITY)
)
# Of the table, where an expression reads other columns as well.
SAMPLE_ROWS = 1_000
SAMPLE_BLOCKS = 4_096

# Functions and operators that came neither with the server nor with an extension.
CALLS = """
    exists (select from pg_depend as d
             where {object}
               and d.refclassid = any (array['pg_proc'::regclass, 'pg_operator'::regclass])
               and not exists (select from pg_depend as e where e.classid = d.refclassid and e.objid = d.refobjid
                                  and e.deptype = 'e'))
"""
OTHER_COLUMNS = """
    exists (select from pg_depend as d
             where {object} and d.refclassid = 'pg_class'::regclass
               and d.refobjid = %(table)s and d.refobjsubid not in (0, %(raw)s))
"""
DEPENDS = """
    exists (select from pg_depend as d
             where {object} and d.refclassid = 'pg_class'::regclass
               and d.refobjid = %(table)s and d.refobjsubid = %(raw)s)
"""
OF_CONSTRAINT = "d.classid = 'pg_constraint'::regclass and d.objid = con.oid"
OF_INDEX = "d.classid = 'pg_class'::regclass and d.objid = i.indexrelid"
# Until PostgreSQL 14 it is the column that depends.
OF_GENERATED = """
    (d.classid = 'pg_attrdef'::regclass and d.objid = def.oid
     or d.classid = 'pg_class'::regclass and d.objid = def.adrelid and d.objsubid = def.adnum)
    and d.refobjsubid <> def.adnum
"""

CHECKS = """
    select con.conname, pg_get_expr(con.conbin, con.conrelid), {other_columns} or con.conbin::text ~ ':varattno 0 ',
           {calls}
      from pg_constraint as con
     where con.conrelid = %(table)s and con.contype = 'c' and con.conname !~ %(ours)s
       and (%(raw)s = any (con.conkey) or con.conbin::text ~ ':varattno 0 ')  -- a whole row
       and coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true)
     order by 1
"""
GENERATED_COLUMNS = """
    select a.attname, pg_get_expr(def.adbin, def.adrelid), {other_columns},
           {calls}
      from pg_attrdef as def
      join pg_attribute as a on a.attrelid = def.adrelid and a.attnum = def.adnum and a.attgenerated <> ''
     where def.adrelid = %(table)s and a.attnum <> %(raw)s and {depends}
     order by 1
"""
INDEXES = """
    select c.relname, concat_ws(', ', pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)),
           {other_columns}, {calls},
           -- A row that is not in the index has no value in it.
           case when i.indexprs is not null and i.indpred is not null
                then format('case when %%s then row(%%s)::text end', pg_get_expr(i.indpred, i.indrelid), pg_get_expr(i.indexprs, i.indrelid)) end
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = %(table)s and (i.indexprs is not null or i.indpred is not null) and not i.indisexclusion and {depends}
     order by 1
"""
# Every domain on the way down to the base type.
DOMAINS_CALL = """
    with recursive step (oid, typbasetype) as (
        select t.oid, t.typbasetype from pg_type as t join pg_attribute as a on a.atttypid = t.oid
         where a.attrelid = %(table)s and a.attnum = %(raw)s and t.typtype = 'd'
        union all
        select t.oid, t.typbasetype from step join pg_type as t on t.oid = step.typbasetype where t.typtype = 'd'
    )
    select coalesce(bool_or({calls}), false)
      from pg_constraint as con where con.contypid in (select oid from step)
"""

# The row is called as its table is: an expression may name all of it.
OF_VALUE = sql.SQL("select bool_and({what}) from (select {value} as {raw}) as {name}")
OF_ROWS = sql.SQL("""
    select bool_and({what})
      from (select {columns} from {table} as {name}
             where {in_range} and {present} is not null and {before} limit {most}) as {name}
""")


def _asked(query: str, of_object: str) -> str:
    """*query*, which asks what an object depends on."""
    parts = {"calls": CALLS, "other_columns": OTHER_COLUMNS, "depends": DEPENDS}
    return query.format(**{name: text.format(object=of_object) for name, text in parts.items()})


_Job: TypeAlias = InPlaceJob | IntoJob


class Outcome(Enum):
    """What trying came to."""

    TAKEN = "taken"  # every sample
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class _Expression:
    is_condition: bool  # a CHECK has to be true; anything else, to be computed
    name: str
    text: str
    of_rows: bool  # it reads other columns as well
    calls: bool
    asked: str | None = None  # where that is not the text


def check(target: Target) -> Iterator[Finding]:
    """What is tried, in the order of the catalog."""
    job, column = target.part, target.columns.get(target.result)
    if not target.writes or not isinstance(job, InPlaceJob | IntoJob) or column is None:
        return
    written = {"raw": column.number}
    execute(target.connection, sql.SQL("set local search_path = pg_catalog, pg_temp"))  # names in expressions
    if column.checked:
        found = list(_domain(target, job, column))
        yield from found
        if any(finding.code == REFUSED.code for finding in found):
            return  # no sample gets as far as the others
    for row in target.ask(_asked(CHECKS, OF_CONSTRAINT), ours=OURS, **written):
        yield from _check(target, job, column, _Expression(True, *row))
    for row in target.ask(_asked(GENERATED_COLUMNS, OF_GENERATED), **written):
        yield from _generated(target, job, column, _Expression(False, *row))
    for row in target.ask(_asked(INDEXES, OF_INDEX), **written):
        yield from _index(target, job, column, _Expression(False, *row))


def _domain(target: Target, job: _Job, column: Column) -> Iterator[Finding]:
    name = f"{job.name}.{column.name}"
    if target.ask(_asked(DOMAINS_CALL, OF_CONSTRAINT), raw=column.number)[0][0]:
        yield DOMAIN(
            target.column(column.name),
            f"Column {name} is of domain {column.type}, whose CHECK calls a function that preflight does not run.",
            f"Look whether it takes what a {job.becomes} looks like; then accept it.",
        )
        return
    itself = sql.Identifier(column.name).as_string(driver(target.connection))
    one = _Expression(False, column.type, itself, of_rows=False, calls=False)
    if _outcome(target, job, column, one) is Outcome.REFUSED:
        yield REFUSED(
            target.column(column.name),
            f"Column {name} is of domain {column.type}, whose CHECK refuses {_what(job)}.",
            "Change the CHECK of the domain, or name another kind in the plan.",
        )


def _check(target: Target, job: _Job, column: Column, one: _Expression) -> Iterator[Finding]:
    outcome = _outcome(target, job, column, one)
    if outcome is Outcome.REFUSED:
        yield REFUSED(
            target.column(one.name),
            f"CHECK {one.name} of {job.name} refuses {_what(job)}: {one.text}.",
            "Change it, or name another kind in the plan.",
        )
    elif outcome is Outcome.UNKNOWN or one.of_rows:
        yield ON_WRITTEN(
            target.column(one.name),
            f"CHECK {one.name} of {job.name} has {column.name} in it, and may refuse {_what(job)}: {one.text}.",
            "Look whether it holds for every row; then accept it.",
        )


def _generated(target: Target, job: _Job, column: Column, one: _Expression) -> Iterator[Finding]:
    if _outcome(target, job, column, one) is Outcome.REFUSED:
        yield REFUSED(
            target.column(one.name),
            f"Generated column {job.name}.{one.name} cannot be computed from {_what(job)}: {one.text}.",
            f"alter table {job.name} alter column {one.name} drop expression; or name another kind in the plan.",
        )
    else:
        yield GENERATED(
            target.column(one.name),
            f"Column {job.name}.{one.name} is generated from {column.name}, and becomes what its expression makes of a result: {one.text}.",
            "Look who reads it; then accept it.",
        )


def _index(target: Target, job: _Job, column: Column, one: _Expression) -> Iterator[Finding]:
    outcome = _outcome(target, job, column, one)
    if outcome is Outcome.REFUSED:
        yield REFUSED(
            target.column(one.name),
            f"Index {one.name} of {job.name} cannot be computed from {_what(job)}: {one.text}.",
            f"Drop {one.name}, or name another kind in the plan.",
        )
    elif outcome is Outcome.UNKNOWN:
        yield COMPUTED(
            target.column(one.name),
            f"Index {one.name} of {job.name} computes something from {column.name}, and may fail for {_what(job)}: {one.text}.",
            "Look whether it can be computed from every result; then accept it.",
        )


def _what(job: _Job) -> str:
    if isinstance(job, IntoJob):
        return "a hash"
    if job.becomes == "nothing":
        return "NULL" if job.constant is None else "the constant of the plan"
    result = f"a {job.becomes}"
    if job.unreadable == "nothing":
        result += (
            ", or NULL for a text that is no address"
            if job.constant is None
            else ", or the constant of the plan"
        )
    return result


def _outcome(target: Target, job: _Job, column: Column, one: _Expression) -> Outcome:
    """A result counts as refused where the address that it comes from is taken."""
    if one.calls:
        return Outcome.UNKNOWN
    taken = False
    for sample in samples(job):
        if _takes(target, column, one, sample.result):
            taken = True
        elif sample.address is None or _takes(target, column, one, sample.address):
            return Outcome.REFUSED
    return Outcome.TAKEN if taken else Outcome.UNKNOWN


def _takes(target: Target, column: Column, one: _Expression, text: str | None) -> bool:
    """Whether it can be computed for that value, and is not false where it is a condition. No row is an answer too."""
    expression = sql.SQL(one.asked or one.text)
    what = sql.SQL("({}) is not false" if one.is_condition else "(row({}))::text is not null").format(
        expression
    )
    type_ = column_type(
        target.connection, target.part, column.name
    ).name  # under any path, and without a length
    value_of = sql.SQL("cast({} as {})").format(sql.Literal(text), sql.SQL(type_))
    raw, name = sql.Identifier(column.name), sql.Identifier(target.part.table)
    if one.of_rows:
        listed = sql.SQL(", ").join(
            value_of + sql.SQL(" as ") + raw if each == column.name else sql.Identifier(each)
            for each in target.columns
        )
        statement = OF_ROWS.format(
            what=what,
            columns=listed,
            table=table(target.part),
            name=name,
            present=sql.Identifier(target.raw),
            in_range=Range(0, SAMPLE_BLOCKS).holds(target.part.table),
            before=what if one.is_condition else sql.SQL("true"),
            most=sql.Literal(SAMPLE_ROWS),
        )
    else:
        statement = OF_VALUE.format(what=what, value=value_of, raw=raw, name=name)
    try:
        with target.connection.begin_nested():
            return value(target.connection, statement) is not False
    except DRIVER_ERRORS:
        return False
