"""Raw columns that are gone: done, where a proof of them is on record; a mistake in the plan otherwise."""

from collections.abc import Sequence

import click

from backfill.cli.context import Session
from backfill.database.columns import columns, has_column
from backfill.errors import NoRun
from backfill.ledger import coverage, raw_columns
from backfill.plan import Job
from backfill.raw_column import RawColumn

NOTHING_LEFT = "Nothing is left to run."
AFTER_ALL = ("backfill gates",)


def gone(session: Session, parts: Sequence[RawColumn]) -> list[RawColumn]:
    """Those whose raw column has been dropped after it was found covered."""
    try:
        session.require_ledger()
    except NoRun:
        return []
    with session.engine.connect() as connection:
        found = [
            part
            for part in parts
            if not has_column(connection, part, part.raw_column)
            and not isinstance(columns(connection, part), str)  # a table that is gone is another matter
            and coverage.was_covered(connection, part.identity)
            and not raw_columns.stands(connection, session.settings.ledger_schema, part.identity)
        ]
        connection.rollback()
    return found


def still_there(session: Session, jobs: tuple[Job, ...]) -> tuple[Job, ...] | None:
    """What a run still has to do; says which columns are done. ``None``: all are, or no address is left.

    Where the address column is gone, what becomes no link goes on.
    """
    done = gone(session, (*session.plan.address_tables, *jobs))
    for part in done:
        click.echo(f"{part.name}.{part.raw_column} is gone, and was covered: done.")
    left = tuple(job for job in jobs if job not in done)
    return None if done and not left else left


def calibrates(session: Session) -> bool:
    """Whether the plan has an address table, and addresses in it to calibrate with."""
    known = session.plan.address_tables
    return bool(known) and not gone(session, known)
