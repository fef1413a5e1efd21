"""Seal: from now on, raw values in new rows are discarded, when the application's deploy is late.

A recorded decision: those addresses are never linked. What is discarded is counted by a sequence,
since a counter in a table would make every writer wait for the one before (and one that is rolled
back counts too: the number is an upper bound). On a table with triggers of its own nothing else
fires: ours is a BEFORE trigger and changes nothing but the row that is being written.
"""

from collections.abc import Callable

from psycopg2 import sql
from sqlalchemy import Connection, Engine, func, select

from backfill.database.columns import has_column
from backfill.database.connection import execute, value
from backfill.database.lock_retry import patiently, say_busy
from backfill.database.nullable import require_nullable
from backfill.database.quoting import quoted, regclass, table
from backfill.database.seal_trigger import seal_name, seal_removal, seal_trigger
from backfill.errors import NotSealed, SealUnfit
from backfill.ledger import decisions
from backfill.ledger.tables import seals
from backfill.plan import Discard, DroppingJob, InPlaceJob, Job, Plan, dropping
from backfill.raw_column import Table, find

LOCK_TIMEOUT_MS = 300  # CREATE TRIGGER waits for writers, and writers queue behind it

CREATE = sql.SQL("""
    create sequence {name};
    -- As its owner: the application has no rights in our schema, and must not need any.
    create function {name}() returns trigger language plpgsql security definer
        set search_path = pg_catalog, pg_temp as $seal$
    begin
        if tg_op = 'INSERT' or new.{column} is distinct from old.{column} then
            new.{column} := null;
            perform nextval({sequence}::regclass);
        end if;
        return new;
    end $seal$;
    create trigger {trigger} before insert or update on {table}
        for each row when (new.{column} is not null) execute function {name}()
""")


def sealable(plan: Plan, name: str) -> DroppingJob | Discard:
    """The job or discard of that name. Raises ``UnknownJob``, ``AmbiguousJob``, ``KindUnfit``, ``SealUnfit``."""
    part = named(plan, name)
    if isinstance(part, InPlaceJob):
        raise SealUnfit(job=part.label, becomes=part.becomes)
    return part if isinstance(part, Discard) else dropping(part)


def named(plan: Plan, name: str) -> Job | Discard:
    """The job or discard of that name, of whatever kind: an earlier plan may have sealed it. Raises as ``find`` does."""
    parts: tuple[Job | Discard, ...] = (*plan.jobs, *plan.discard)
    return find(name, parts)


def can_be_sealed(connection: Connection, part: Job | Discard) -> bool:
    """Whether the column is still there."""
    return has_column(connection, part, part.raw_column)


def is_sealed(connection: Connection, part: Job | Discard) -> bool:
    """Whether our trigger is there."""
    statement = sql.SQL("select exists (select from pg_trigger where tgrelid = {} and tgname = %s)")
    return bool(value(connection, statement.format(regclass(part)), (seal_trigger(part),)))


def seal(engine: Engine, schema: str, part: DroppingJob | Discard, tell: Callable[[str], None]) -> bool:
    """Install the trigger; whether it was not there before."""
    column = part.raw_column
    own = sql.Identifier(schema, seal_name(part))
    statement = CREATE.format(
        name=own,
        sequence=sql.Literal(quoted(schema, seal_name(part))),
        column=sql.Identifier(column),
        table=table(part),
        trigger=sql.Identifier(seal_trigger(part)),
    )

    def install(connection: Connection) -> bool:
        if is_sealed(connection, part):
            return False
        require_nullable(connection, part, "Deploy the application that no longer writes it.")
        for leftover in seal_removal(schema, part):
            execute(connection, sql.SQL(leftover))
        connection.execute(seals.delete().where(seals.c.job == part.identity))
        execute(connection, statement)
        decision = decisions.record(connection, "seal", part.identity, 0, column=column)
        connection.execute(seals.insert().values(job=part.identity, column_name=column, decision_id=decision))
        return True

    return bool(_patiently(engine, part, install, tell))


def unseal(engine: Engine, schema: str, part: Job | Discard, tell: Callable[[str], None]) -> int:
    """Remove the trigger; returns what it discarded. Raises ``NotSealed``."""

    def remove(connection: Connection) -> int:
        if not is_sealed(connection, part):
            raise NotSealed(table=part.label)
        number = discarded(connection, schema, part)
        execute(
            connection,
            sql.SQL("drop trigger {} on {}").format(sql.Identifier(seal_trigger(part)), table(part)),
        )
        for statement in seal_removal(schema, part):
            execute(connection, sql.SQL(statement))
        decisions.record(connection, "unseal", part.identity, number, column=part.raw_column)
        connection.execute(seals.delete().where(seals.c.job == part.identity))
        return number

    return _patiently(engine, part, remove, tell)


def discarded(connection: Connection, schema: str, part: Job | Discard) -> int:
    """Raw values that the seal of that column has discarded, rolled-back writes included."""
    own = sql.Identifier(schema, seal_name(part))
    exists = value(
        connection, sql.SQL("select to_regclass(%s) is not null"), (quoted(schema, seal_name(part)),)
    )
    if not exists:
        return 0
    return int(
        value(
            connection, sql.SQL("select case when is_called then last_value else 0 end from {}").format(own)
        )
    )


def counts(connection: Connection, schema: str, plan: Plan) -> dict[str, int]:
    """Discarded values by what people call the sealed column."""
    parts: tuple[DroppingJob | Discard, ...] = (*plan.dropping_jobs, *plan.discard)
    known = {part.identity: part for part in parts}
    found = {}
    for (name,) in connection.execute(select(seals.c.job).order_by(func.lower(seals.c.job))):
        if (part := known.get(name)) is not None:  # another plan's are that plan's to report
            found[part.label] = discarded(connection, schema, part)
    return found


def _patiently(
    engine: Engine, part: Table, change: Callable[[Connection], int], tell: Callable[[str], None]
) -> int:
    return patiently(engine, LOCK_TIMEOUT_MS, change, [table(part)], busy=say_busy(part.name, tell))
