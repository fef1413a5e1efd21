"""Raw type: whether the column can hold what a job in place writes into it."""

from collections.abc import Iterator

from psycopg2 import sql

from backfill import escaping
from backfill.database.connection import value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.preflight.columns import TEXTUAL, TYPMOD_EXTRA
from backfill.database.preflight.finding import Finding, blocks
from backfill.database.preflight.sample_results import longest
from backfill.database.preflight.target import Column, Target
from backfill.plan import InPlaceJob

TYPE = blocks("raw-type")
TOO_SHORT = blocks("raw-too-short")
NOT_NULL = blocks("raw-not-null")
CONSTANT = blocks("constant-refused")

INET = "inet"
WHY_NOT = {
    "cidr": "a cidr holds networks, and a result is a host",
    "macaddr": "it holds no IP addresses",
    "macaddr8": "it holds no IP addresses",
    "json": "members of JSON documents are not supported by this version",
    "jsonb": "members of JSON documents are not supported by this version",
    "bytea": "its bytes have no text",
}
ENUM = "select typtype = 'e' from pg_type as t join pg_attribute as a on a.atttypid = t.oid where a.attrelid = %(table)s and a.attnum = %(raw)s"


def check(target: Target) -> Iterator[Finding]:
    """Type, length, NULL, and the plan's constant."""
    job, column = target.part, target.columns.get(target.raw)
    if not target.writes or not isinstance(job, InPlaceJob) or column is None:
        return
    subject, name = target.column(column.name), f"{job.name}.{column.name}"
    reason = _unfit(target, job, column)
    if reason:
        yield TYPE(
            subject,
            f'Column {name} (raw address) is {column.type}, in which becomes = "{job.becomes}" is not supported: {reason}.',
            "It has to be text, varchar, char, citext or a domain over one of these"
            + ("." if job.becomes == "hash" else ", or inet or a domain over it."),
        )
        return
    room, needed = column.typmod - TYPMOD_EXTRA, longest(job)
    if column.base in ("varchar", "bpchar") and 0 <= room < needed:
        yield TOO_SHORT(
            subject,
            f"Column {name} is {column.type}, and what becomes of an address ({job.becomes}) has up to {needed} characters.",
            f"alter table {job.name} alter column {column.name} type varchar({needed}); or another kind, or other widths.",
        )
    if column.not_null and job.constant is None and "nothing" in (job.becomes, job.unreadable):
        key = "becomes" if job.becomes == "nothing" else "unreadable"
        yield NOT_NULL(
            subject,
            f'Column {name} is NOT NULL, and {key} = "nothing" writes NULL.',
            f"Name a constant in the plan, or alter table {job.name} alter column {column.name} drop not null;",
        )
    if job.constant is not None and (held := _held(target, column, job.constant)) != job.constant:
        yield CONSTANT(
            subject,
            f"Column {name} is {column.type}, which does not take the constant of the plan."
            if held is None
            else f"Column {name} is {column.type}, which holds the constant of the plan as {escaping.toml(held)}: no row would be known by it.",
            "Name another constant: one that is a value of this type, in the encoding of this database."
            if held is None
            else f"Name it so in the plan: constant = {escaping.toml(held)}",
        )


def _unfit(target: Target, job: InPlaceJob, column: Column) -> str | None:
    if column.base == INET:
        return "a hash is no address" if job.becomes == "hash" else None
    if column.base in TEXTUAL:
        return None
    if column.base.startswith("_"):
        return "arrays are not supported"
    if target.ask(ENUM)[0][0]:
        return "an enum has a fixed list of values"
    return WHY_NOT.get(column.base, "this type is not supported")


# As a value of the type, in the spelling that the column gives back: without a full mask, without spaces at the end.
PRINTED = {INET: "concat(cast({} as inet))", "bpchar": "cast(cast({} as bpchar) as text)"}


def _held(target: Target, column: Column, constant: str) -> str | None:
    """The *constant*, as it would stand in the column; None where it is no value of the type.

    Its length, and what CHECKs say of it, is asked apart.
    """
    printed = sql.SQL(PRINTED.get(column.base, "cast({} as text)")).format(sql.Literal(constant))
    try:
        with target.connection.begin_nested():
            return str(value(target.connection, sql.SQL("select {}").format(printed)))
    except (*DRIVER_ERRORS, UnicodeError):
        return None
