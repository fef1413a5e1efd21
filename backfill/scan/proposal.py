"""Proposal: a plan made of what a scan found, as far as this database lets it pass `backfill plan`.

A column is proposed where nearly all of its values *are* addresses. What belongs to a job besides (key,
link, time) is taken from the catalog, and the result is put before the same preflight as any plan; what that
objects to is left out, with the objection.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.preflight.checks import inspect
from backfill.database.preflight.columns import TEXTUAL
from backfill.database.preflight.finding import Finding, Severity
from backfill.database.preflight.target import Purpose
from backfill.database.row_key import catalog_key
from backfill.plan import Addresses, Geo, Hash, InPlaceJob, IntoJob, Job, LinkJob, Plan
from backfill.raw_column import Table
from backfill.scan import hash_column
from backfill.scan.columns import Column
from backfill.scan.place import Found
from backfill.scan.rewriting import Option, chosen, options, takes

NAME = "scan"
IS_KEY = "It is the table's primary key, which would be dropped with it."
NO_ADDRESS_TABLE = (
    "There is no table that holds each address once (inet, unique, with columns for hash and geo): "
    "docs/plan.md says what it has."
)

# Of one table: its columns in their order, whether each is a key by itself, and whether it refers to another table.
COLUMNS = sql.SQL("""
    select a.attname::text, t.typname::text, a.attnotnull,
           coalesce(bool_or(i.indisprimary), false), coalesce(bool_or(i.indisunique and a.attnotnull), false),
           coalesce((select array_agg(con.confrelid::bigint) from pg_constraint as con
                      where con.contype = 'f' and con.conrelid = a.attrelid and con.conkey = array[a.attnum]), '{}'),
           coalesce((select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef as d
                      where d.adrelid = a.attrelid and d.adnum = a.attnum), '')
      from pg_attribute as a
      join pg_type as given on given.oid = a.atttypid
      join pg_type as t on t.oid = case when given.typtype = 'd' then given.typbasetype else given.oid end
      left join pg_index as i on i.indrelid = a.attrelid and i.indisvalid and i.indimmediate and i.indpred is null
                             and i.indnkeyatts = 1 and i.indkey[0] = a.attnum
     where a.attrelid = %s::oid and a.attnum > 0 and not a.attisdropped
     group by a.attrelid, a.attnum, a.attname, t.typname, a.attnotnull
     order by a.attnum
""")

# Tables that could be the one that holds each address once.
ADDRESS_TABLES = sql.SQL("""
    select c.oid::bigint, n.nspname::text, c.relname::text, a.attname::text
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_type as t on t.oid = a.atttypid and t.typname = 'inet'
      join pg_index as i on i.indrelid = c.oid and i.indisunique and i.indnkeyatts = 1 and i.indkey[0] = a.attnum
     where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')
     order by (select count(*) from pg_constraint where contype = 'f' and confrelid = c.oid) desc, 2, 3
""")

OID = sql.SQL("""
    select c.oid::bigint from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = %s and c.relname = %s
""")

PARTITION = sql.SQL("""
    select parent.relname::text from pg_inherits join pg_class as parent on parent.oid = inhparent where inhrelid = %s::oid
""")


@dataclass(frozen=True)
class Proposed:
    """A job that can be, and what is known of its column."""

    job: LinkJob | IntoJob | InPlaceJob
    found: Found
    accept: tuple[str, ...]  # findings that would have to be accepted first
    rewriting: tuple[Option, ...] = ()  # what could become of it without an address table
    no_link: str = ""  # why it can be no link; empty where it is one


@dataclass(frozen=True)
class Proposal:
    """What a scan makes of what it found."""

    addresses: Addresses | None
    jobs: tuple[Proposed, ...]
    left: tuple[tuple[Found, str], ...]  # and why no job of it can be


@dataclass(frozen=True)
class _Member:
    name: str
    type: str
    not_null: bool
    primary: bool
    key: bool
    refers: tuple[int, ...]
    default: str


def propose(connection: Connection, plan: Plan, ledger_schema: str, found: Sequence[Found]) -> Proposal:
    """Jobs for the columns of *found* that are raw columns. Reads catalog and, for places, some rows."""
    addresses = _addresses(connection, plan)
    jobs: list[Proposed] = []
    left: list[tuple[Found, str]] = []
    for one in found:
        if not one.alarming or one.unread:
            continue
        objection = _objection(connection, one)
        if objection is not None or one.column is None:
            left.append((one, objection or "it is no column"))
            continue
        beside = [
            other.column.name
            for other in found
            if other.alarming and other.column is not None and other.column.oid == one.column.oid
        ]
        others = [made.job for made in jobs]
        made, why = _proposed(connection, plan, one, one.column, addresses, others, beside, ledger_schema)
        if made is None:
            left.append((one, why))
        else:
            jobs.append(made)
    return Proposal(addresses, tuple(jobs), tuple(left))


def _proposed(
    connection: Connection,
    plan: Plan,
    one: Found,
    column: Column,
    addresses: Addresses | None,
    others: Sequence[Job],
    beside: Sequence[str],
    ledger_schema: str,
) -> tuple[Proposed | None, str]:
    """A link where one can be; else what the values can become in their place; else why neither.

    *beside*: columns of the table in which addresses were found, of which no key can be made.
    """
    if addresses is not None and (column.schema, column.table) == (addresses.schema_, addresses.table):
        return None, "the table holds each address once, and links refer to its rows"
    members = _members(connection, column.oid)
    not_null = next(member.not_null for member in members if member.name == column.name)
    table = Table.model_validate({"table": column.table, "schema": column.schema})
    names = catalog_key(connection, table, beside)
    in_place = rewriting = options(connection, column, names, not_null, ledger_schema, plan.accept)
    typed = ((one.name, one.type) for one in members)
    into = hash_column.beside(column, typed, beside, tuple(_written(column, others)))
    if into is not None:
        key = catalog_key(connection, table, [*beside, into])
        time = _time(members)
        hashed = hash_column.hashing(connection, column, into, key, time, ledger_schema, plan.accept)
        rewriting = (hashed, *rewriting)
    links = [job for job in others if isinstance(job, LinkJob)]
    job, why = _job(column, members, beside, addresses, connection, links)
    if job is not None and addresses is not None:
        findings = _findings(connection, plan, addresses, job, ledger_schema)
        blocking = [finding for finding in findings if finding.severity is Severity.BLOCKS]
        if not blocking:
            return Proposed(job, one, tuple(finding.name for finding in findings), rewriting), ""
        why = " ".join(finding.text for finding in blocking)
    best = chosen(rewriting)
    if best is None:
        return None, f"{why} In its place: {in_place[0].blocking[0].text}"
    return Proposed(best.job, one, best.accept, rewriting, why), ""


def _objection(connection: Connection, one: Found) -> str | None:
    if one.planned:
        return "the plan has it already"
    column = one.column
    if one.what == "statistics":
        return "copied from the column: once its values are rewritten, `analyze` the table, then `backfill erase`"
    if column is None and one.where.startswith(f"{one.what} of "):  # an object of the catalog, without values
        return "no plan takes it out; change or drop it yourself"
    if column is None:
        return "no plan takes it out; change the application, then rewrite its values"
    if not one.proposed:
        if one.lists > one.are:
            return "most of its values are lists of addresses, and a job takes one address a value"
        return f"it contains addresses; {one.share:.1%} of its values are one, so it is no raw column"
    parents = rows(connection, PARTITION, (column.oid,))
    if parents:
        return f"it is part of {parents[0][0]}, and a column of a part cannot be dropped by itself"
    if column.kind != "r":
        return "a materialized view follows its tables: refresh it afterwards"
    if not takes(column):
        return "its values are addresses, and no job takes a column of its type"
    return None


def _members(connection: Connection, oid: int) -> list[_Member]:
    return [
        _Member(name, kind, not_null, primary, key, tuple(refers), default)
        for name, kind, not_null, primary, key, refers, default in rows(connection, COLUMNS, (oid,))
    ]


def _addresses(connection: Connection, plan: Plan) -> Addresses | None:
    """The plan's own address table where it is here; else one of the catalog."""
    for own in plan.address_tables:
        if rows(connection, OID, (own.schema_, own.table)):
            return own
    for oid, schema, table, address in rows(connection, ADDRESS_TABLES):
        members = _members(connection, oid)
        key = _key(members, address)
        hashes = [one.name for one in members if one.type in TEXTUAL and "hash" in one.name.lower()]
        places = [one.name for one in members if one.type == "jsonb"]
        if key and hashes and places:
            ban = dict.fromkeys(("banned", "ban_reason", "ban_date"), "")
            return Addresses.model_validate(
                {"table": table, "schema": schema, "key": key, "address": address, "hash": hashes[0]}
                | {"geo": places[0]}
                | ban
            )
    return None


def _job(
    column: Column,
    members: Sequence[_Member],
    beside: Sequence[str],
    addresses: Addresses | None,
    connection: Connection,
    others: Iterable[LinkJob],
) -> tuple[LinkJob | None, str]:
    """A job that links the values of *column*, or why there is none. *beside*: columns that hold addresses."""
    if addresses is None:
        return None, NO_ADDRESS_TABLE
    if (column.schema, column.table) == (addresses.schema_, addresses.table):
        return None, "It is the table that holds each address once."
    if any(one.primary and one.name == column.name for one in members):
        return None, IS_KEY
    ((target,),) = rows(connection, OID, (addresses.schema_, addresses.table))
    taken = {job.link for job in others if (job.schema_, job.table) == (column.schema, column.table)}
    links = [one.name for one in members if target in one.refers and one.name not in taken]
    if not links:
        return None, (
            f"The table has no {'other ' if taken else ''}column that refers to {addresses.name}: add one for the link, "
            "nullable, with a foreign key."
        )
    link = max(links, key=lambda name: SequenceMatcher(None, name, column.name).ratio())
    extra = "additional" if any((one.name, one.type) == ("additional", "jsonb") for one in members) else ""
    table = Table.model_validate({"table": column.table, "schema": column.schema})
    return LinkJob.model_validate(
        {
            "table": column.table,
            "schema": column.schema,
            "key": catalog_key(connection, table, [*beside, *links, extra]),
            "raw": column.name,
            "link": link,
            "extra": extra,
            "time": _time(members),
        }
    ), ""


def _written(column: Column, others: Iterable[Job]) -> Iterator[str]:
    """Columns of its table that another job writes."""
    for job in others:
        if (job.schema_, job.table) == (column.schema, column.table):
            yield from job.written


def _time(members: Sequence[_Member]) -> str:
    """The column that tells when a row was written; empty where none does for certain."""
    times = [one for one in members if one.type in ("timestamptz", "timestamp")]
    times.sort(key=lambda one: (not _is_now(one.default), not one.not_null))
    return times[0].name if times and (_is_now(times[0].default) or times[0].not_null) else ""


def _is_now(default: str) -> bool:
    return any(word in default.lower() for word in ("now()", "current_timestamp", "clock_timestamp()"))


def _key(members: Sequence[_Member], raw: str) -> str | None:
    keys = [one for one in members if one.key and one.name != raw]
    return next((one.name for one in keys if one.primary), keys[0].name if keys else None)


def _findings(
    connection: Connection, plan: Plan, addresses: Addresses, job: LinkJob, ledger_schema: str
) -> list[Finding]:
    tried = Plan(name=NAME, hash=Hash(), geo=Geo(), addresses=addresses, jobs=(job,))
    accept = plan.accept
    report = inspect(connection, tried, (addresses, job), ledger_schema, Purpose.PLAN, accept)
    return [*report.blocking, *report.unaccepted]
