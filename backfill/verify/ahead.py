"""Ahead: rows dated more than a day in the future, and whether they are too many for a clock that is wrong.

The bound is that of preflight. Where it is passed, nothing is known of the age of such rows: a unit or zone that the
application changed makes all that it writes younger than anything, for ever.
"""

from collections.abc import Collection

from sqlalchemy import Connection

from backfill import escaping
from backfill.database.preflight.ages import AHEAD, TOO_MANY
from backfill.ledger import acceptances
from backfill.plan import InPlaceJob, Plan


def too_many(ahead: int, rows: int) -> bool:
    """More than a clock that is wrong explains."""
    return ahead * TOO_MANY > rows


def accepted_names(connection: Connection, schema: str, plan: Plan) -> frozenset[str]:
    """What was accepted: by the plan, or on record in the ledger *schema*."""
    return frozenset((*plan.accept, *acceptances.recorded(connection, schema)))


def is_accepted(job: InPlaceJob, names: Collection[str]) -> bool:
    """The operator knows that rows of *job* lie in the future."""
    return _name(job) in names


def fix(job: InPlaceJob) -> str:
    """What helps."""
    return (
        f"correct unit or zone of {job.time_column} in the plan, or these rows; where they are right, accept them: "
        f"`backfill run --accept {escaping.word(_name(job))}`, or `accept` in the plan"
    )


def _name(job: InPlaceJob) -> str:
    return f"{AHEAD.code}:{job.schema_}.{job.table}.{job.time_column}"
