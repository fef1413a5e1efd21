"""Constraints: CHECKs and foreign keys that a written row meets. PostgreSQL logs the whole row that fails one."""

from collections.abc import Iterator

from psycopg2 import sql

from backfill.database.connection import execute, value
from backfill.database.preflight.finding import Finding, blocks, changes, note
from backfill.database.preflight.target import Target
from backfill.database.quoting import table
from backfill.plan import InPlaceJob, IntoJob, LinkJob

VIOLATED = blocks("check-violated")
UNREADABLE = changes("check-not-valid")
ON_WRITTEN = changes("check-on-written-column")
NOT_ENFORCED = note("constraint-not-enforced")
NO_FOREIGN_KEY = note("no-foreign-key")
FOREIGN_KEY_ELSEWHERE = blocks("foreign-key-elsewhere")
FOREIGN_KEY_NOT_VALID = note("foreign-key-not-valid")

OURS = "^backfill_(covered|hash_required)"  # of the migration's gates

# conenforced is new in PostgreSQL 18. A CHECK that calls a function which did not come with the server is not run.
CHECKS = """
    select con.conname, pg_get_expr(con.conbin, con.conrelid), con.convalidated,
           coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true),
           con.conkey && %(written)s::int2[],
           exists (select from pg_depend as d where d.classid = 'pg_constraint'::regclass and d.objid = con.oid
                      and d.refclassid = 'pg_proc'::regclass)
      from pg_constraint as con
     where con.conrelid = %(table)s and con.contype = 'c' and con.conname !~ %(ours)s
     order by con.conname
"""
# New in PostgreSQL 18: rows from before may be NULL, and no UPDATE of such a row passes.
NOT_NULLS = """
    select con.conname, a.attname
      from pg_constraint as con join pg_attribute as a on a.attrelid = con.conrelid and a.attnum = con.conkey[1]
     where con.conrelid = %(table)s and con.contype = 'n' and not con.convalidated
     order by 1
"""
FOREIGN_KEYS = """
    select con.conname, con.convalidated, coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true),
           c.relname = %(name)s and n.nspname = %(schema)s
           and (select attname from pg_attribute where attrelid = c.oid and attnum = con.confkey[1]) = %(key)s
           and cardinality(con.conkey) = 1,
           format('%%I.%%I', n.nspname, c.relname)
      from pg_constraint as con
      join pg_class as c on c.oid = con.confrelid
      join pg_namespace as n on n.oid = c.relnamespace
     where con.conrelid = %(table)s and con.contype = 'f' and con.conkey && %(link)s::int2[]
     order by con.conname
"""


def check(target: Target) -> Iterator[Finding]:
    """CHECKs, and foreign keys of the link."""
    if not target.writes:
        return
    execute(target.connection, sql.SQL("set local search_path = pg_catalog, pg_temp"))  # names in expressions
    for name, expression, valid, enforced, written, calls in target.ask(CHECKS, ours=OURS):
        yield from _check(target, name, expression, valid, enforced, written, calls)
    for name, column in target.ask(NOT_NULLS):
        yield from _not_null(target, name, column)
    if isinstance(target.part, LinkJob):
        yield from _foreign_keys(target, target.part)


def _check(
    target: Target, name: str, expression: str, valid: bool, enforced: bool, written: bool, calls: bool
) -> Iterator[Finding]:
    part, subject = target.part, target.column(name)
    if not enforced:
        yield NOT_ENFORCED(
            subject, f"Constraint {name} of {part.name} is not enforced.", "Nothing of ours stands on it."
        )
        return
    if not valid:
        if calls:
            yield UNREADABLE(
                subject,
                f"CHECK {name} of {part.name} is not valid, and it calls a function that preflight does not run: "
                "an old row that violates it fails its batch, and is written whole to the server's log.",
                f"alter table {part.name} validate constraint {name};",
            )
        else:
            number = _violations(target, expression)
            if number:
                yield VIOLATED(
                    subject,
                    f"CHECK {name} of {part.name} is not valid, and {number:,} rows violate it: their update would fail, "
                    "and the server's log would get the whole row, address included.",
                    f"Correct the rows, or drop the constraint; then alter table {part.name} validate constraint {name};",
                )
    if written and not isinstance(part, InPlaceJob | IntoJob):  # ``raw_expressions`` tries it
        yield ON_WRITTEN(
            subject,
            f"CHECK {name} of {part.name} has a written column in it, and may refuse the new value: {expression}.",
            "Look whether it holds with a link, a hash or a place; then accept it.",
        )


def _not_null(target: Target, name: str, column: str) -> Iterator[Finding]:
    part = target.part
    statement = sql.SQL("select count(*) from {} where {} is null").format(
        table(part), sql.Identifier(column)
    )
    number = int(value(target.connection, statement))
    if number:
        yield VIOLATED(
            target.column(name),
            f"NOT NULL {name} of {part.name} is not valid, and {number:,} {'row has' if number == 1 else 'rows have'} NULL in "
            f"{column}: their update would fail, and the server's log would get the whole row, address included.",
            f"Fill them, or drop the constraint; then alter table {part.name} validate constraint {name};",
        )


def _violations(target: Target, expression: str) -> int:
    statement = sql.SQL("select count(*) from {} where not ({})").format(
        table(target.part), sql.SQL(expression.replace("%", "%%"))
    )
    return int(value(target.connection, statement, ()))


def _foreign_keys(target: Target, job: LinkJob) -> Iterator[Finding]:
    addresses, link = target.plan.addresses, target.columns.get(job.link)
    if link is None:
        return
    found = target.ask(
        FOREIGN_KEYS, link=[link.number], name=addresses.table, schema=addresses.schema_, key=addresses.key
    )
    for name, valid, enforced, ours, elsewhere in found:
        if not ours and enforced:
            yield FOREIGN_KEY_ELSEWHERE(
                target.column(name),
                f"Foreign key {name} ties {job.name}.{job.link} to {elsewhere}, not to {addresses.name}.{addresses.key}.",
                "Name the right table, key and link in the plan.",
            )
        elif ours and enforced and not valid:
            yield FOREIGN_KEY_NOT_VALID(
                target.column(name),
                f"Foreign key {name} of {job.name} is not valid: links from before it may lead nowhere.",
                f"alter table {job.name} validate constraint {name};",
            )
    if not any(ours and enforced for _, _, enforced, ours, _ in found):
        yield NO_FOREIGN_KEY(
            target.column(job.link),
            f"No foreign key ties {job.name}.{job.link} to {addresses.name}.{addresses.key}: an address that is deleted "
            "leaves links that lead nowhere.",
            f"alter table {job.name} add foreign key ({job.link}) references {addresses.name} ({addresses.key}) not valid;",
        )
