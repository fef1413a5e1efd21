"""Targets: a table of the plan as the catalog has it, and what a command does to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.quoting import quoted_table
from backfill.plan import Addresses, Discard, InPlaceJob, IntoJob, Job, Plan
from backfill.raw_column import Table


class Purpose(StrEnum):
    """What a command is about to do; each asks for what matters to it."""

    READ = "read"  # verify, report, gates, calibrate
    REMEDY = "remedy"  # settle, merge, repair: what they write is written by triggers and keys alike
    WRITE = "write"  # run
    COPY = "copy"  # run, by a copy without the raw column
    PLAN = "plan"  # all of that, and what a later drop takes along


RELATION = sql.SQL("""
    select c.oid::bigint, c.relkind::text, c.relispartition, c.relpersistence::text, c.reloftype::bigint,
           c.relhassubclass and exists (select from pg_inherits as i where i.inhparent = c.oid),
           exists (select from pg_inherits as i where i.inhrelid = c.oid),
           coalesce((select amname = 'heap' from pg_am where pg_am.oid = c.relam), true),
           row_security_active(c.oid), c.relreplident::text, c.relowner::bigint
      from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = %s and c.relname = %s
""")

COLUMNS = sql.SQL("""
    select a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), base.typname,
           greatest(a.atttypmod, coalesce(domain.typmod, -1)),
           a.attnotnull or coalesce(domain.required, false), coalesce(domain.checked, false),
           a.atthasdef or coalesce(domain.has_default, false), a.attidentity::text, a.attgenerated::text
      from pg_attribute as a
      left join lateral (
               with recursive step as (
                   select t.oid, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefault
                     from pg_type as t where t.oid = a.atttypid and t.typtype = 'd'
                   union all
                   select t.oid, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefault
                     from step join pg_type as t on t.oid = step.typbasetype where t.typtype = 'd'
               )
               select max(typtypmod) as typmod, bool_or(typnotnull) as required,
                      bool_or(typdefault is not null) as has_default,
                      exists (select from pg_constraint as c where c.contype = 'c'
                                 and c.contypid in (select oid from step)) as checked,
                      (select typbasetype from step where typbasetype not in (select oid from step)) as base
                 from step
           ) as domain on true
      join pg_type as base on base.oid = coalesce(domain.base, a.atttypid)
     where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
     order by a.attnum
""")


@dataclass(frozen=True)
class Relation:
    """What kind of table it is."""

    oid: int
    kind: str
    is_partition: bool
    persistence: str
    of_type: int
    has_children: bool
    has_parents: bool
    is_heap: bool
    hides_rows: bool
    replica_identity: str
    owner: int


@dataclass(frozen=True)
class Column:
    """A column, with its domain looked through."""

    name: str
    number: int
    type: str  # as declared
    base: str  # typname, of what a domain stands for
    typmod: int
    not_null: bool
    checked: bool  # by a CHECK of its domain
    has_default: bool
    identity: str
    generated: str


@dataclass(frozen=True)
class Target:
    """A table that a command is about to touch."""

    connection: Connection
    plan: Plan
    ledger_schema: str
    purpose: Purpose
    part: Table
    relation: Relation
    columns: Mapping[str, Column]

    @property
    def subject(self) -> str:
        """``schema.table``."""
        return f"{self.part.schema_}.{self.part.table}"

    def column(self, name: str) -> str:
        """``schema.table.column``, or another object of the table."""
        return f"{self.subject}.{name}"

    @property
    def writes(self) -> bool:
        """Whether rows of it are to be changed."""
        return self.purpose is not Purpose.READ and not isinstance(self.part, Discard)

    @property
    def inserts(self) -> bool:
        """Whether rows are to be added."""
        return self.writes and isinstance(self.part, Addresses)

    @property
    def deletes(self) -> bool:
        """Whether rows may be deleted."""
        return self.writes and isinstance(self.part, InPlaceJob) and self.part.deletes

    @property
    def raw(self) -> str:
        """The raw column."""
        part = self.part
        if isinstance(part, Job):
            return part.raw
        return part.column if isinstance(part, Discard) else getattr(part, "address", "")

    @property
    def written(self) -> tuple[str, ...]:
        """Columns that get another value."""
        part = self.part
        if isinstance(part, Job):
            return part.written
        return (part.address, part.hash, part.geo) if isinstance(part, Addresses) else ()

    @property
    def numbers(self) -> list[int]:
        """Numbers of the written columns in the catalog."""
        return [self.columns[name].number for name in self.written if name in self.columns]

    def ask(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query about this table; it has ``%(table)s``, its number in the catalog."""
        known = {"table": self.relation.oid, "written": self.numbers, "raw": self.raw_number}
        return rows(self.connection, sql.SQL(query), known | values)

    @property
    def result(self) -> str:
        """The column that gets what becomes of an address, where that is another one; else the raw column."""
        return self.part.into if isinstance(self.part, IntoJob) else self.raw

    @property
    def raw_number(self) -> int:
        """The raw column's number; 0 where it is gone."""
        return self.columns[self.raw].number if self.raw in self.columns else 0


def open_target(
    connection: Connection, plan: Plan, ledger_schema: str, purpose: Purpose, part: Table
) -> Target | None:
    """The table of *part*; ``None`` where there is none."""
    found = rows(connection, RELATION, (part.schema_, part.table))
    if not found:
        return None
    relation = Relation(*found[0])
    columns = {row[0]: Column(*row) for row in rows(connection, COLUMNS, (relation.oid,))}
    return Target(connection, plan, ledger_schema, purpose, part, relation, columns)


def relation_name(part: Table) -> str:
    """``"schema"."table"``, for statements that a message proposes."""
    return quoted_table(part)
