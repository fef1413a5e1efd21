"""How the chain runs: our own version table, one command at a time, one transaction a revision."""

import time

from alembic.util import CommandError
from psycopg2 import errorcodes
from sqlalchemy import text

from alembic import context
from backfill.database import revisions
from backfill.database.connection import problem_of, sqlstate_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.lock_retry import lock_attempts, say_busy
from backfill.database.owners import require_trusted_ledger
from backfill.database.quoting import quoted
from backfill.engine import signals
from backfill.engine.target import open_engine
from backfill.errors import BackfillError, ChainBusy
from backfill.ledger import locks
from backfill.ledger.tables import metadata
from backfill.settings import Settings

DRIVEN = "settings"  # given by a command of ours, which tells errors itself
TURN_SECONDS = 10.0
MADE_MEANWHILE = {errorcodes.UNIQUE_VIOLATION, errorcodes.DUPLICATE_SCHEMA, errorcodes.DUPLICATE_TABLE}


def configure(settings, **where):
    """What online and offline share."""
    context.configure(
        target_metadata=metadata,
        version_table="alembic_version",
        version_table_schema=settings.ledger_schema,
        transaction_per_migration=True,
        **where,
    )


def ensure_schema(connection, schema, owner):
    """Alembic fails when the schema of its version table is missing; one that somebody else prepared is refused."""
    known = connection.execute(text("select to_regnamespace(:name) is not null"), {"name": schema}).scalar()
    if not known:
        connection.execute(text(f"create schema if not exists {quoted(schema)}"))
    require_trusted_ledger(connection, schema, owner)
    locks.ensure(connection, schema)
    connection.commit()


def take_lock(connection, schema):
    """Wait for another command that is at the chain; the lock goes with its session."""
    end = time.monotonic() + TURN_SECONDS
    while isinstance(taken := locks.take(connection, schema, locks.CHAIN), locks.Holder):
        if time.monotonic() > end:
            raise ChainBusy(holder=taken)
        time.sleep(0.2)


def online(settings):
    """Run what is asked for; a change that does not get its lock in time is tried again."""
    engine = context.config.attributes.get("engine") or open_engine(settings)

    try:
        with engine.connect() as connection:
            for left in (True, False):
                try:
                    ensure_schema(connection, settings.ledger_schema, settings.ledger_owner)
                except DRIVER_ERRORS as error:
                    if sqlstate_of(error) not in MADE_MEANWHILE or not left:
                        raise
                    connection.rollback()  # another first command was faster by a moment
                else:
                    break
            # Session-level, and committed at once: a transaction-level lock would be gone after the
            # first revision, and an open transaction would make autocommit blocks raise.
            take_lock(connection, settings.ledger_schema)
            for attempt in lock_attempts(say_busy("The table", context.config.print_stdout)):
                with attempt:
                    connection.rollback()
                    configure(settings, connection=connection)
                    with context.begin_transaction():
                        context.run_migrations()
            connection.invalidate()  # the lock goes with its session
    finally:
        if "engine" not in context.config.attributes:
            engine.dispose()


def predecessor_first(migrations, schema):
    """Let each revision's part of a script refuse, inside its transaction, unless the one before it is in place."""

    def checked(step, change):
        def run(**words):
            for before in step.from_revisions_no_deps:
                context.get_context().impl.static_output(
                    f"do $at$ begin if not exists (select from {quoted(schema)}.alembic_version where version_num = '{before}')"
                    f" then raise exception using message = 'backfill refuses: the database is not at {before}',"
                    f" hint = 'select version_num from {schema}.alembic_version says where it is: write the script from there'; end if; end $at$;\n"
                )
            change(**words)

        return run

    def steps(heads, migration_context):
        for step in migrations(heads, migration_context):
            step.migration_fn = checked(step, step.migration_fn)
            yield step

    return steps


def offline(settings):
    """Write the script: it carries its gates, and psql stops at the first refusal."""
    configure(settings, dialect_name="postgresql", literal_binds=True)
    script = context.get_context()
    script._migrations_fn = predecessor_first(script._migrations_fn, settings.ledger_schema)
    script.output_buffer.write("\\set ON_ERROR_STOP on\n\n")
    if context.get_starting_revision_argument() is None:
        script.output_buffer.write(f"create schema if not exists {quoted(settings.ledger_schema)};\n\n")
        script.output_buffer.write(f"{locks.CREATE.format(schema=quoted(settings.ledger_schema))};\n\n")
    with context.begin_transaction():
        context.run_migrations()


try:
    settings = context.config.attributes.get(DRIVEN) or Settings.load()
    if context.is_offline_mode():
        offline(settings)
    else:
        with signals.obeyed():
            if DRIVEN not in context.config.attributes:
                signals.leaves_by_default(revisions.LEFT)
            online(settings)
except BackfillError as error:
    if isinstance(error, CommandError) or DRIVEN in context.config.attributes:  # a command of ours tells it
        raise
    raise CommandError(str(error)) from error
except DRIVER_ERRORS as error:
    if DRIVEN in context.config.attributes:
        raise
    raise CommandError(
        f"The database answered with an error: {problem_of(error)} ({sqlstate_of(error)})"
    ) from error
