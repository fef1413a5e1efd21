"""Raw columns that are gone: done, where a proof of them is on record; a mistake in the plan otherwise."""

from collections.abc import Sequence

import click

from backfill.cli.context import Session
from backfill.database.columns import columns, has_column
from backfill.errors import NoRun, SchemaUnfit
from backfill.ledger import coverage, raw_columns
from backfill.plan import Job, LinkJob
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
    """What a run still has to do; says which columns are done. ``None``: all are, or no address is left."""
    done = gone(session, (*session.plan.address_tables, *jobs))
    for part in done:
        click.echo(f"{part.name}.{part.raw_column} is gone, and was covered: done.")
    left = tuple(job for job in jobs if job not in done)
    known = next((part for part in session.plan.address_tables if part in done), None)
    if known is not None and (going_on := [job.label for job in left if not isinstance(job, LinkJob)]):
        raise SchemaUnfit(
            problem=f"{known.name}.{known.raw_column} is gone, and jobs of plan {session.plan.name} go on: {', '.join(going_on)}. "
            "Put them into a plan of their own, without [addresses] and without what is done, and name it in BACKFILL_PLAN. "
            "A consent that was given for a job holds there as well."
        )
    if set(session.plan.address_tables) & set(done) or (jobs and not left):
        return None
    return left
