"""Into column: the column into which hashes go. Its type and its CHECKs are ``columns``' and ``raw_expressions``'."""

from collections.abc import Iterator

from backfill.database.preflight.finding import Finding, blocks
from backfill.database.preflight.target import Target
from backfill.plan import IntoJob

NOT_NULL = blocks("into-not-null")
DEFAULT = blocks("into-has-default")
FOREIGN_KEY = blocks("into-in-foreign-key")

# Its own, or that of its domain; "DEFAULT NULL" is none.
HAS_DEFAULT = """
    select exists (select from pg_attrdef where adrelid = %(table)s and adnum = %(into)s
                      and pg_get_expr(adbin, adrelid) !~* '^null(::|$)')
        or exists (select from pg_attribute as a join pg_type as t on t.oid = a.atttypid
                    where a.attrelid = %(table)s and a.attnum = %(into)s and t.typdefault is not null)
"""
FOREIGN_KEYS = """
    select con.conname, con.confrelid::regclass::text
      from pg_constraint as con
     where con.contype = 'f' and con.conrelid = %(table)s and %(into)s = any (con.conkey)
     order by 1
"""


def check(target: Target) -> Iterator[Finding]:
    """NULL, a default, foreign keys."""
    job = target.part
    if not target.writes or not isinstance(job, IntoJob):
        return
    into = target.columns.get(job.into)
    if into is None or into.generated:  # ``columns`` says so
        return
    subject, name = target.column(into.name), f"{job.name}.{into.name}"
    if into.not_null:
        yield NOT_NULL(
            subject,
            f"Column {name} (into) is NOT NULL: a row that has no hash yet is told by NULL.",
            f"alter table {job.name} alter column {into.name} drop not null;",
        )
    if target.ask(HAS_DEFAULT, into=into.number)[0][0]:
        yield DEFAULT(
            subject,
            f"Column {name} (into) has a default: a new row without a hash would look as if it had one.",
            f"alter table {job.name} alter column {into.name} drop default;",
        )
    for constraint, other in target.ask(FOREIGN_KEYS, into=into.number):
        yield FOREIGN_KEY(
            target.column(constraint),
            f"Foreign key {constraint} ties {name} to {other}, which lacks the hashes that are to be written.",
            f"Name another column in the plan, or drop {constraint}.",
        )
