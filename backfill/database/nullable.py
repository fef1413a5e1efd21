"""Nullable: whether a column takes NULL, by everything that may say no, and what would help.

Through SQLAlchemy alone, since a gate asks as well, over whatever driver its chain has.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from backfill import escaping
from backfill.database.quoting import quoted
from backfill.database.verbatim import fetch
from backfill.errors import CannotBeNull
from backfill.plan import Job
from backfill.raw_column import RawColumn

LOOKED_AT = 1_000  # rows on which a CHECK is tried

# What PostgreSQL 14 does not have is read out of the row as JSON, so that one text serves all versions.
OBSTACLES = r"""
    with recursive the_column as (
        select a.*, a.attrelid::regclass::text as whole from pg_attribute as a
         where a.attrelid = to_regclass(:table) and a.attname = :column and not a.attisdropped
    ), types (oid, base, not_null) as (
        select t.oid, t.typbasetype, t.typnotnull from the_column join pg_type as t on t.oid = atttypid
        union all
        select t.oid, t.typbasetype, t.typnotnull from types join pg_type as t on t.oid = types.base
    ), the_key as (
        select i.indexrelid from the_column join pg_index as i on i.indrelid = attrelid
         where i.indisprimary and attnum = any (i.indkey)
    )
    select 1, 'it is a generated column', '', '' from the_column where attgenerated <> ''
    union all
    select 2, 'it is an identity column', '', '' from the_column where attidentity <> ''
    union all
    select 3, format('it is part of the primary key %s', indexrelid::regclass), '', '' from the_key
    union all
    select 4, 'it is NOT NULL', format('alter table %s alter column %I drop not null', whole, attname), ''
      from the_column where attnotnull and not exists (select from the_key)
    union all
    select 5, format('its domain %s does not allow NULL', oid::regtype),
           format('alter domain %s drop not null', oid::regtype), '' from types where not_null
    union all
    select 6, format('its domain %s does not allow NULL: constraint %I', types.oid::regtype, conname),
           format('alter domain %s drop constraint %I', types.oid::regtype, conname), ''
      from types join pg_constraint on contypid = types.oid
     where contype = 'c' and pg_get_constraintdef(pg_constraint.oid) ~* '\mvalue is not null\M'
    union all
    select 7, format('index %s allows one NULL', i.indexrelid::regclass), '', ''
      from the_column join pg_index as i on i.indrelid = attrelid
     where attnum = any (i.indkey) and to_jsonb(i) ->> 'indnullsnotdistinct' = 'true'
    union all
    -- Its expression is evaluated; one that calls functions that are not PostgreSQL's own is not.
    select case when exists (select from pg_depend as d
                              where d.classid = 'pg_constraint'::regclass and d.objid = con.oid
                                and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass))
                then 9 else 8 end,
           format('constraint %I does not allow NULL', conname),
           format('alter table %s drop constraint %I', whole, conname), pg_get_expr(conbin, conrelid)
      from the_column join pg_constraint as con on conrelid = attrelid
     where contype = 'c' and attnum = any (conkey)
       and to_jsonb(con) ->> 'conenforced' is distinct from 'false'
     order by 1, 2
"""
EXPRESSION, UNKNOWN = 8, 9  # a CHECK that is tried, and one that is not

OTHERS = """
    select string_agg(quote_ident(attname), ', ') from pg_attribute
     where attrelid = to_regclass(:table) and attnum > 0 and not attisdropped and attname <> :column
"""
REJECTS = """
    select exists (select from (select (null::{table}).*) as {alias} where {new} and not ({expression}))
        or exists (select from (select {others} (null::{table}).{column} as {column}
                                  from {table} where {column} is not null limit {rows}) as {alias}
                    where not ({expression}))
"""


@dataclass(frozen=True)
class Obstacle:
    """Why a column does not take NULL, and the statement that would change that, where one would."""

    why: str
    statement: str


def obstacle(connection: Connection, part: RawColumn, *, new_rows: bool = True) -> Obstacle | None:
    """What keeps the raw column of *part* from being NULL; None where nothing does, or there is no such column.

    *new_rows*: in rows that nobody has seen yet as well, where a CHECK may depend on other columns.
    """
    names = {"table": quoted(part.schema_, part.table), "column": part.raw_column}
    for kind, why, statement, expression in connection.execute(text(OBSTACLES), names):
        if kind < EXPRESSION:
            return Obstacle(why, statement)
        if kind == UNKNOWN:
            if new_rows:
                return Obstacle(f"{why}, as far as can be told: it calls functions", statement)
        elif _rejects(connection, part, expression, new_rows=new_rows):
            return Obstacle(why, statement)
    return None


def discardable(connection: Connection, job: Job) -> bool:
    """Whether waiting rows can be settled as discard."""
    return obstacle(connection, job, new_rows=False) is None


def to_settle(name: str, count: int, *, discard: bool, sentinel: bool = True) -> str:
    """What settles the waiting rows of the job *name*: one command to paste, and the other way where there is one.

    *sentinel*: its rows have links. A hash has none: they are settled as discard, or the refusal says what would help.
    """
    fate = "sentinel" if sentinel else "discard"
    command = f"`backfill quarantine settle {escaping.word(name)} --as {fate} --count {count}`"
    return command + (" (or `--as discard`)" if discard and sentinel else "")


def or_seal(connection: Connection, part: RawColumn) -> str:
    """What is offered beside a deployment, where a seal is possible: begins with a comma."""
    return "" if obstacle(connection, part) else f", or `backfill seal {escaping.word(part.label)}`"


def require_nullable(connection: Connection, part: RawColumn, instead: str, *, new_rows: bool = True) -> None:
    """Raises ``CannotBeNull``; *instead*: what else the operator may do, a sentence."""
    found = obstacle(connection, part, new_rows=new_rows)
    if found is not None:
        change = f" Or, if the application can do with it: {found.statement};" if found.statement else ""
        raise CannotBeNull(column=f"{part.name}.{part.raw_column}", why=found.why, help=instead + change)


def _rejects(connection: Connection, part: RawColumn, expression: str, *, new_rows: bool) -> bool:
    names = {"table": quoted(part.schema_, part.table), "column": part.raw_column}
    others = connection.execute(text(OTHERS), names).scalar()
    statement = REJECTS.format(
        table=names["table"],
        alias=quoted(part.table),
        column=quoted(part.raw_column),
        others=f"{others}," if others else "",
        expression=expression,
        new="true" if new_rows else "false",
        rows=LOOKED_AT,
    )
    return bool(fetch(connection, statement)[0][0])
