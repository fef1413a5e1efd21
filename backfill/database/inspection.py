"""Inspection: does the database have what the plan names, and may we work on it?"""

from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection, text

from backfill.database.engine import value
from backfill.errors import SchemaUnfit
from backfill.plan import Discard, Job, Plan, Table

KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table"}
TEXTUAL = {"text", "character varying", "character", "citext"}

RELATION = text("""
    select c.relkind::text, c.relispartition  -- some drivers return "char" as bytes
      from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = :schema and c.relname = :name
""")
COLUMNS = text("""
    select a.attname, format_type(a.atttypid, null), a.attnotnull,
           exists (select from pg_index as i
                    where i.indrelid = a.attrelid and i.indisunique and i.indpred is null
                      and i.indnkeyatts = 1 and i.indkey[0] = a.attnum)
      from pg_attribute as a join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = :schema and c.relname = :name and a.attnum > 0 and not a.attisdropped
""")


@dataclass(frozen=True)
class Column:
    """A column as the catalog has it."""

    type: str
    not_null: bool
    unique: bool


def columns(connection: Connection, part: Table) -> dict[str, Column] | str:
    """The table's columns by name, or the problem with the table in words."""
    # Through any driver: a gate asks it with the connection of somebody else's chain.
    named = {"schema": part.schema_, "name": part.table}
    found = connection.execute(RELATION, named).all()
    if not found:
        return f"Table {part.name} does not exist in this database. Check BACKFILL_DATABASE_URL, or the plan."
    ((kind, is_partition),) = found
    if kind != "r" or is_partition:
        what = KINDS.get(kind, "not a plain table") if kind != "r" else "a partition"
        return f"{part.name} is {what}, which is not supported. Name plain tables in the plan."
    return {name: Column(*rest) for name, *rest in connection.execute(COLUMNS, named)}


def key_type(connection: Connection, part: Table) -> str:
    """SQL type of the primary key, for casts of a row key back from text."""
    found = columns(connection, part)
    if isinstance(found, str):
        raise SchemaUnfit(problem=found)
    return found[part.key].type


def has_column(connection: Connection, part: Table, name: str) -> bool:
    """Whether the table exists and has that column."""
    found = columns(connection, part)
    return not isinstance(found, str) and name in found


def _privilege(connection: Connection, part: Table, *needed: str) -> list[str]:
    quoted = ".".join('"' + name.replace('"', '""') + '"' for name in (part.schema_, part.table))
    missing = [
        privilege
        for privilege in needed
        if not value(connection, sql.SQL("select has_table_privilege(%s, %s)"), (quoted, privilege))
    ]
    if not missing:
        return []
    user = value(connection, sql.SQL("select current_user"))
    return [
        f"Role {user} lacks {', '.join(missing)} on {part.name}. Grant it: "
        f"grant {', '.join(missing).lower()} on {part.name} to {user};"
    ]


def _expect(part: Table, found: dict[str, Column], name: str | None, types: set[str], role: str) -> list[str]:
    if name is None:
        return []
    if name not in found:
        return [f"Table {part.name} has no column {name} ({role}). Check the plan."]
    if types and found[name].type not in types:
        return [
            f"Column {part.name}.{name} ({role}) is {found[name].type}; it has to be {' or '.join(sorted(types))}."
        ]
    return []


def inspect_addresses(connection: Connection, plan: Plan) -> list[str]:
    """What is wrong with the address table, a sentence each."""
    part = plan.addresses
    found = columns(connection, part)
    if isinstance(found, str):
        return [found]
    problems = [
        *_expect(part, found, part.key, set(), "key"),
        *_expect(part, found, part.address, {"inet"}, "address"),
        *_expect(part, found, part.hash, TEXTUAL, "hash"),
        *_expect(part, found, part.geo, {"jsonb"}, "geo"),
        *(
            p
            for name in (part.banned, part.ban_reason, part.ban_date)
            for p in _expect(part, found, name, set(), "ban")
        ),
    ]
    problems += [
        f"Column {part.name}.{name} is not unique. Add a unique index: concurrent upserts stand on it."
        for name in (part.key, part.address, part.hash)
        if name in found and not found[name].unique
    ]
    return problems or _privilege(connection, part, "SELECT", "INSERT", "UPDATE")


def inspect_job(connection: Connection, job: Job) -> list[str]:
    """What is wrong with an event table, a sentence each."""
    found = columns(connection, job)
    if isinstance(found, str):
        return [found]
    problems = [
        *_expect(job, found, job.key, set(), "key"),
        *_expect(job, found, job.raw, TEXTUAL, "raw address"),
        *_expect(job, found, job.link, set(), "link"),
        *_expect(job, found, job.extra, {"jsonb"}, "extra"),
        *_expect(job, found, job.time, set(), "time"),
    ]
    if job.key in found and not found[job.key].unique:
        problems.append(f"Column {job.name}.{job.key} is not unique. Name the primary key in the plan.")
    return problems or _privilege(connection, job, "SELECT", "UPDATE")


def inspect_discard(connection: Connection, discard: Discard) -> list[str]:
    """What is wrong with a table whose column is to be dropped."""
    found = columns(connection, discard)
    if isinstance(found, str):
        return [found]
    return _expect(discard, found, discard.time, set(), "time") or _privilege(connection, discard, "SELECT")


def inspect_database(connection: Connection, ledger_schema: str) -> list[str]:
    """What is wrong with the database as a whole."""
    problems = []
    if value(connection, sql.SQL("show server_encoding")) == "SQL_ASCII":
        problems.append(
            "The database encoding is SQL_ASCII, so its text has no meaning. Convert it to UTF8 first."
        )
    if value(connection, sql.SQL("select pg_is_in_recovery()")):
        problems.append("This server is a standby and read-only. Name the primary in BACKFILL_DATABASE_URL.")
    owned = value(
        connection,
        sql.SQL("""
            select coalesce(
                (select has_schema_privilege(oid, 'USAGE, CREATE') from pg_namespace where nspname = %s),
                has_database_privilege(current_database(), 'CREATE'))
        """),
        (ledger_schema,),
    )
    if not owned:
        user = value(connection, sql.SQL("select current_user"))
        problems.append(
            f"Role {user} may not create schema {ledger_schema}. Grant it: grant create on database … to {user}; "
            "or have the schema created and owned by it."
        )
    if not value(connection, sql.SQL("select has_database_privilege(current_database(), 'TEMPORARY')")):
        problems.append("Temporary tables are not allowed here. Grant TEMPORARY on the database.")
    return problems


def inspect(connection: Connection, plan: Plan, jobs: tuple[Job, ...], ledger_schema: str) -> list[str]:
    """Everything that would keep a run of *jobs* from working, a sentence each; empty when fit."""
    problems = inspect_database(connection, ledger_schema) + inspect_addresses(connection, plan)
    for job in jobs:
        problems += inspect_job(connection, job)
    return problems


def require_fit(connection: Connection, plan: Plan, jobs: tuple[Job, ...], ledger_schema: str) -> None:
    """Raises ``SchemaUnfit`` with the first problem and the number of others."""
    problems = inspect(connection, plan, jobs, ledger_schema)
    if problems:
        others = f" ({len(problems) - 1} more: `backfill plan` lists them.)" if len(problems) > 1 else ""
        raise SchemaUnfit(problem=problems[0] + others)


def require_fit_to_verify(connection: Connection, plan: Plan, ledger_schema: str) -> None:
    """Like ``require_fit``, for a database that may have lost raw columns already. Raises ``SchemaUnfit``."""
    problems = inspect_database(connection, ledger_schema)
    for part in (plan.addresses, *plan.jobs, *plan.discard):
        found = columns(connection, part)
        problems += [found] if isinstance(found, str) else _privilege(connection, part, "SELECT")
    if problems:
        raise SchemaUnfit(problem=problems[0])
