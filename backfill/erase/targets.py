"""Targets: which tables have something to be rewritten away, and what the server knows of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import has_column
from backfill.database.connection import rows
from backfill.errors import NotErasable
from backfill.ledger import batches
from backfill.plan import InPlaceJob, Plan
from backfill.raw_column import RawColumn

REFUSED = {
    "v": "a view, which holds nothing; name the tables beneath it",
    "f": "a foreign table; its rows lie on another server, and are erased there",
    "S": "a sequence",
    "i": "an index; name its table",
    "I": "an index; name its table",
    "t": "a TOAST table; name the table that it belongs to",
}

# A partitioned table holds nothing itself; its leaves do.
RELATION = sql.SQL("""
    select leaf.oid::bigint, n.nspname, leaf.relname, leaf.relkind, leaf.relpersistence,
           coalesce(pg_relation_filenode(leaf.oid), 0)::bigint, pg_total_relation_size(leaf.oid),
           (select count(*) from pg_attribute
             where attrelid = leaf.oid and attnum > 0 and attisdropped),
           leaf.reltablespace::bigint
      from pg_class as named
      join pg_namespace as home on home.oid = named.relnamespace
      cross join lateral (
           select named.oid where named.relkind <> 'p'
            union all
           select relid from pg_partition_tree(named.oid) where named.relkind = 'p' and isleaf) as part
      join pg_class as leaf on leaf.oid = part.oid
      join pg_namespace as n on n.oid = leaf.relnamespace
     where home.nspname = %s and named.relname = %s
     order by n.nspname, leaf.relname
""")


@dataclass(frozen=True)
class Target:
    """A relation with rows of its own, as the catalog has it at one moment."""

    oid: int
    schema: str
    table: str
    kind: str  # relkind: r or m
    persistence: str  # relpersistence: p, u (unlogged)
    filenode: int
    size: int  # bytes, with TOAST and indexes
    dropped: int  # attributes that were dropped and still lie in its rows
    tablespace: int  # 0: the database's

    @property
    def name(self) -> str:
        """As commands and messages call it."""
        return self.table if self.schema == "public" else f"{self.schema}.{self.table}"

    @property
    def identifier(self) -> sql.Identifier:
        """``"schema"."table"``."""
        return sql.Identifier(self.schema, self.table)


@dataclass(frozen=True)
class Skipped:
    """A table of the plan that is not rewritten, and why."""

    name: str
    why: str


def raw_columns(plan: Plan) -> Iterator[tuple[RawColumn, str]]:
    """Every table of the plan with the column that is to be gone from it."""
    for part in plan.parts:
        yield part, part.raw_column


def find_targets(
    connection: Connection, plan: Plan, names: Sequence[str]
) -> tuple[list[Target], list[Skipped]]:
    """The relations to rewrite: those *names* say, or every table of the plan that lost its raw column, or whose
    values are rewritten in place.

    Raises ``NotErasable`` for a name that cannot be rewritten.
    """
    if names:
        return [target for name in names for target in _named(connection, plan, name)], []
    targets: list[Target] = []
    skipped: list[Skipped] = []
    for part, column in raw_columns(plan):
        found = relations(connection, part.schema_, part.table)
        if not found:
            skipped.append(Skipped(part.label, "does not exist here"))
        elif has_column(connection, part, column) and not isinstance(part, InPlaceJob):
            skipped.append(
                Skipped(part.label, f"{column} is still there: `backfill gates` says how to drop it")
            )
        elif not isinstance(part, InPlaceJob) and not any(target.dropped for target in found):
            skipped.append(Skipped(part.label, "carries no dropped column: a new table has taken its place"))
        else:
            targets += [target for target in found if target not in targets]  # once for all its columns
    return targets, skipped


def rewritten_since(connection: Connection, plan: Plan, target: Target, moment: datetime) -> bool:
    """Whether values of that table were rewritten in place after that *moment*: the old ones lie in its file again."""
    return any(
        batches.rewritten_since(connection, job.identity, moment)
        for job in plan.in_place_jobs
        if (job.schema_, job.table) == (target.schema, target.table)
    )


def relations(connection: Connection, schema: str, table: str) -> list[Target]:
    """That relation, or the leaves of a partitioned one; empty where there is none."""
    return [Target(*row) for row in rows(connection, RELATION, (schema, table))]


def _named(connection: Connection, plan: Plan, name: str) -> list[Target]:
    schema, _, table = name.rpartition(".")
    found = relations(connection, schema or "public", table)
    if not found:
        raise NotErasable(table=name, problem="there is no such table")
    for target in found:
        if target.kind not in ("r", "m"):
            raise NotErasable(table=target.name, problem=f"it is {REFUSED.get(target.kind, 'not a table')}")
    ours = [
        (part, column)
        for part, column in raw_columns(plan)
        if name in (part.name, f"{part.schema_}.{part.table}") and not isinstance(part, InPlaceJob)
    ]
    standing = [column for part, column in ours if has_column(connection, part, column)]
    if ours and len(standing) == len(ours):
        raise NotErasable(
            table=name, problem=f"its column {', '.join(standing)} is still there, so there is nothing to erase yet; "
            "`backfill gates` says how to drop it"
        )  # fmt: skip
    return found
