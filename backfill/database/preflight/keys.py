"""Keys: unique indexes that we stand on, what names a row, and unique indexes that a written column is part of."""

from collections.abc import Iterator

from backfill.database.preflight.finding import Finding, blocks, changes, note
from backfill.database.preflight.raw_keys import DERIVED
from backfill.database.preflight.target import Purpose, Target
from backfill.database.row_key import row_key
from backfill.plan import Addresses, InPlaceJob, Job

NOT_UNIQUE = blocks("not-unique")
NULL_KEY = blocks("key-without-not-null")
ADDRESS_IN_KEY = blocks("address-in-key")
ROW_KEY = note("row-key")
NO_ROW_KEY = note("no-row-key")
EXCLUSION = changes("exclusion-constraint")
UNIQUE_EXPRESSION = changes("unique-expression")

# Every unique index with no key columns but those, with what keeps it from being a key that one can stand on.
INDEXES = """
    select c.relname, i.indisvalid and i.indisready and i.indislive, i.indimmediate, i.indpred is null, not i.indisexclusion
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = %(table)s and i.indisunique
       and (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ %(numbers)s::int2[]
     order by 1
"""
DERIVED_NUMBERS = "with {derived} select number from derived"
# PostgreSQL 18 has a NOT NULL of new rows alone.
NOT_VALIDATED = """
    select a.attname::text from pg_constraint as con
      join pg_attribute as a on a.attrelid = con.conrelid and a.attnum = con.conkey[1]
     where con.conrelid = %(table)s and con.contype = 'n' and not con.convalidated
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
            yield from _unique(target, (name,), immediate=True)
        yield from _no_address(target, part, (part.key,))
    elif isinstance(part, Job):
        if part.key_columns:
            yield from _unique(target, part.key_columns, immediate=False)
            yield from _never_null(target, part, part.key_columns)
            yield from _no_address(target, part, part.key_columns)
        yield from _told(target, part)
    if not isinstance(part, InPlaceJob):  # those are ``raw_keys``'
        yield from _objections(target)


def _unique(target: Target, names: tuple[str, ...], *, immediate: bool) -> Iterator[Finding]:
    if not all(name in target.columns for name in names):
        return
    found = target.ask(INDEXES, numbers=[target.columns[name].number for name in names])
    if any(
        valid and (at_once or not immediate) and whole and equal for _, valid, at_once, whole, equal in found
    ):
        return
    reasons = [
        f"{index} is {'invalid' if not valid else 'partial' if not whole else 'an exclusion constraint' if not equal else 'deferrable'}"
        for index, valid, _, whole, equal in found
    ]
    why = f" (index {', '.join(reasons)})" if reasons else ""
    fix = "Add a unique index: concurrent upserts stand on it." if immediate else OTHER_KEY
    what = (
        f"Column {target.part.name}.{names[0]} is"
        if len(names) == 1
        else f"Columns {_list(names)} of {target.part.name} are"
    )
    yield NOT_UNIQUE(target.column(",".join(names)), f"{what} not unique{why}.", fix)


OTHER_KEY = "Name a unique key in the plan, or none (key = []): its rows in the quarantine are counted then, and not named."


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"


def _never_null(target: Target, job: Job, names: tuple[str, ...]) -> Iterator[Finding]:
    late = {name for (name,) in target.ask(NOT_VALIDATED)}
    for name in names:
        column = target.columns.get(name)
        if column is None or (column.not_null and name not in late):
            continue
        yield NULL_KEY(
            target.column(name),
            f"Column {job.name}.{name} (key) may be NULL: such a row could not be named in the quarantine.",
            f"alter table {job.name} alter column {name} set not null;"
            if not column.not_null
            else f"Its NOT NULL was never validated: alter table {job.name} validate constraint …;",
        )


def _no_address(target: Target, part: Addresses | Job, names: tuple[str, ...]) -> Iterator[Finding]:
    """Values of a key stand in the quarantine and in messages. What a text holds, ``key_values`` tells."""
    derived = {number for (number,) in target.ask(DERIVED_NUMBERS.format(derived=DERIVED))}
    for name in names:
        column = target.columns.get(name)
        if column is None:
            continue
        why = "is generated from the raw address" if column.number in derived else f"is {column.type}"
        if column.number in derived or column.base in ("inet", "cidr"):
            yield ADDRESS_IN_KEY(
                target.column(name),
                f"Column {part.name}.{name} (key) {why}: its values would stand in the quarantine and in messages.",
                f"Name another key in the plan{', or none (key = [])' if isinstance(part, Job) else ''}.",
            )


def _told(target: Target, job: Job) -> Iterator[Finding]:
    """What the catalog chose, where the plan left it to choose; and that there is nothing to choose."""
    if target.purpose is not Purpose.PLAN:
        return
    columns = row_key(target.connection, job).columns
    if not columns:
        yield NO_ROW_KEY(
            target.subject,
            f"Nothing names a row of {job.name}: its rows in the quarantine are counted by reason, and none has a key.",
            "" if job.key_columns is None else "The plan says so (key = []).",
        )
    elif job.key_columns is None and columns != ("id",):
        yield ROW_KEY(
            target.subject,
            f"The plan names no key of {job.name}: its rows are named by {columns[0] if len(columns) == 1 else _list(columns)}.",
            "",
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
