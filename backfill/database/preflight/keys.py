"""Keys: unique indexes that we stand on, and those that a written column is part of."""

from collections.abc import Iterator

from backfill.database.preflight.finding import Finding, blocks, changes
from backfill.database.preflight.target import Target
from backfill.plan import Addresses, InPlaceJob, Job

NOT_UNIQUE = blocks("not-unique")
NULL_KEY = blocks("key-without-not-null")
EXCLUSION = changes("exclusion-constraint")
UNIQUE_EXPRESSION = changes("unique-expression")

# Every unique index whose one key column it is, with what keeps it from being a key that one can stand on.
INDEXES = """
    select c.relname, i.indisvalid and i.indisready and i.indislive, i.indimmediate, i.indpred is null
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = %(table)s and i.indisunique and i.indnkeyatts = 1 and i.indkey[0] = %(number)s
     order by 1
"""
# Exclusion constraints, temporal keys among them, and unique indexes that compute something from a written column.
OTHERS = """
    select c.relname, i.indisexclusion
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = %(table)s and (i.indisunique or i.indisexclusion)
       and (i.indisexclusion or i.indexprs is not null or i.indpred is not null)
       and exists (select from pg_depend as d
                    where d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid
                      and d.refobjsubid = any (%(written)s)
                      and (d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                           or d.classid = 'pg_constraint'::regclass
                              and d.objid in (select con.oid from pg_constraint as con where con.conindid = i.indexrelid)))
     order by 1
"""


def check(target: Target) -> Iterator[Finding]:
    """What has to be unique is; what else is unique may object."""
    part = target.part
    if not target.writes:
        return
    if isinstance(part, Addresses):
        for name in (part.key, part.address, part.hash):
            yield from _unique(target, name, immediate=True)
    elif isinstance(part, Job):
        yield from _unique(target, part.key, immediate=False)
        yield from _never_null(target, part)
    if not isinstance(part, InPlaceJob):  # those are ``raw_keys``'
        yield from _objections(target)


def _unique(target: Target, name: str, *, immediate: bool) -> Iterator[Finding]:
    column = target.columns.get(name)
    if column is None:
        return
    found = target.ask(INDEXES, number=column.number)
    if any(valid and (at_once or not immediate) and whole for _, valid, at_once, whole in found):
        return
    reasons = [
        f"{index} is {'invalid' if not valid else 'partial' if not whole else 'deferrable'}"
        for index, valid, _, whole in found
    ]
    why = f" (index {', '.join(reasons)})" if reasons else ""
    fix = (
        "Add a unique index: concurrent upserts stand on it."
        if immediate
        else "Name the primary key in the plan."
    )
    yield NOT_UNIQUE(target.column(name), f"Column {target.part.name}.{name} is not unique{why}.", fix)


def _never_null(target: Target, job: Job) -> Iterator[Finding]:
    column = target.columns.get(job.key)
    if column is not None and not column.not_null:
        yield NULL_KEY(
            target.column(job.key),
            f"Column {job.name}.{job.key} (key) may be NULL: such a row could not be named in the quarantine.",
            f"alter table {job.name} alter column {job.key} set not null;",
        )


def _objections(target: Target) -> Iterator[Finding]:
    for index, excludes in target.ask(OTHERS):
        kind = EXCLUSION if excludes else UNIQUE_EXPRESSION
        what = "Exclusion constraint" if excludes else "Unique index (partial, or over an expression)"
        yield kind(
            target.column(index),
            f"{what} {index} of {target.part.name} has a written column in it: a row that it refuses fails its batch.",
            "Look whether rows could meet in it; then accept it.",
        )
