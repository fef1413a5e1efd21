"""Relation: whether it is a plain table, all of whose rows this session sees under one file."""

from collections.abc import Iterator

from backfill.database.preflight.finding import Finding, blocks, changes, note
from backfill.database.preflight.target import Target
from backfill.plan import Addresses, InPlaceJob

NO_TABLE = blocks("no-table")
NOT_A_TABLE = blocks("not-a-plain-table")
TEMPORARY = blocks("temporary-table")
INHERITANCE = blocks("inheritance")
ROW_SECURITY = blocks("row-security")
ACCESS_METHOD = blocks("access-method")
TYPED = changes("typed-table")
UNLOGGED = note("unlogged-table")
SUBSCRIBED = changes("filled-by-subscription")

KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "p": "a partitioned table",
    "S": "a sequence",
    "c": "a composite type",
    "i": "an index",
}

SUBSCRIPTIONS = """
    select s.subname from pg_subscription_rel as r join pg_subscription as s on s.oid = r.srsubid
     where r.srrelid = %(table)s order by 1
"""
# Tables outside the plan that refer to the address table: a merge of duplicates changes their rows too.
REFERRING = """
    select distinct format('%%I.%%I', n.nspname, c.relname), n.nspname || '.' || c.relname
      from pg_constraint as k
      join pg_class as c on c.oid = k.conrelid
      join pg_namespace as n on n.oid = c.relnamespace
     where k.contype = 'f' and k.confrelid = %(table)s and row_security_active(c.oid)
       and n.nspname || '.' || c.relname <> all (%(planned)s)
     order by 1
"""
MAY_READ_SUBSCRIPTIONS = "select has_column_privilege('pg_subscription', 'subname', 'select')"


def check(target: Target) -> Iterator[Finding]:
    """Kind, persistence, inheritance, row security."""
    relation, name, subject = target.relation, target.part.name, target.subject
    if relation.kind != "r" or relation.is_partition:
        what = KINDS.get(relation.kind, "not a plain table") if relation.kind != "r" else "a partition"
        yield NOT_A_TABLE(
            subject, f"{name} is {what}, which is not supported.", "Name plain tables in the plan."
        )
        return
    if relation.persistence == "t":
        yield TEMPORARY(
            subject,
            f"{name} is temporary: no other session sees it, and ours are several.",
            "Name a permanent table.",
        )
    if relation.has_children:
        yield INHERITANCE(
            subject,
            f"Other tables inherit from {name}: their rows would be neither written nor counted.",
            f"Take them out: alter table CHILD no inherit {name}; or name each of them as a table of its own.",
        )
    if relation.has_parents:
        yield INHERITANCE(
            subject,
            f"{name} inherits from another table: its columns cannot be dropped alone, and are read through the parent.",
            f"alter table {name} no inherit PARENT;",
        )
    if relation.hides_rows:
        yield ROW_SECURITY(
            subject,
            f"Row security is on for {name}, and this role is subject to it: rows that a policy hides would be missed.",
            f"Use a role with BYPASSRLS; or, as the owner: alter table {name} no force row level security;",
        )
    yield from _referring(target)
    if not relation.is_heap:
        yield ACCESS_METHOD(
            subject,
            f"{name} is not a heap: its block ranges mean something else, or nothing.",
            f"alter table {name} set access method heap;",
        )
    if relation.of_type and target.raw_number and not isinstance(target.part, InPlaceJob):
        yield TYPED(
            subject,
            f"{name} is a table of a type: no column of it can be dropped as it is.",
            f"Before the drop: alter table {name} not of;",
        )
    if relation.persistence == "u":
        yield UNLOGGED(
            subject,
            f"{name} is unlogged: after a crash of the server it is empty, proofs or not.",
            f"alter table {name} set logged; makes it safe.",
        )
    if target.writes and target.ask(MAY_READ_SUBSCRIPTIONS)[0][0]:
        for (subscription,) in target.ask(SUBSCRIPTIONS):
            yield SUBSCRIBED(
                target.column(subscription),
                f"{name} is filled by subscription {subscription}: its publisher overwrites what is written here.",
                "Run on the publisher; or drop the subscription first.",
            )


def _referring(target: Target) -> Iterator[Finding]:
    plan = target.plan
    if not isinstance(target.part, Addresses):
        return
    planned = [f"{part.schema_}.{part.table}" for part in (*plan.jobs, *plan.discard)]
    for quoted, subject in target.ask(REFERRING, planned=planned):
        yield ROW_SECURITY(
            subject,
            f"Row security is on for {quoted}, which refers to {target.part.name}, and this role is subject to it.",
            f"Use a role with BYPASSRLS; or, as the owner: alter table {quoted} no force row level security;",
        )
