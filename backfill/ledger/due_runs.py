"""Due runs: what earlier runs of a timer did, and so how much of the next one is no surprise.

A timer cannot be asked. So the number of due rows and the time since the last run have to fit what was seen before; a
decision says what each run found, and whether the operator had accepted it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import ARRAY, BigInteger, Connection, Text, and_, any_, cast, func, literal, or_, select

from backfill.job_id import JobId
from backfill.ledger import consents, decisions
from backfill.ledger.run_state import UNFINISHED, RunState
from backfill.ledger.tables import decisions as decisions_table
from backfill.ledger.tables import runs

STRATEGY = "due"
KIND = "due"
ROWS_FACTOR = 3  # of the largest run that was accepted
INTERVAL_FACTOR = 2  # of the longest of the last intervals
INTERVALS = 10  # that many of them
SHORTEST = timedelta(days=1)  # two runs by hand in one minute are no timer


@dataclass(frozen=True)
class Expected:
    """What the next run of one job may find without asking; None: nothing to go by."""

    rows: int | None
    last: datetime | None  # moment of the last run that succeeded
    longest: timedelta | None  # between two of the last ones


def expected(connection: Connection, job: JobId) -> Expected:
    """By what is on record of that job."""
    accepted = connection.execute(
        select(func.max(decisions_table.c["count"])).where(
            decisions_table.c.job == job,
            or_(
                decisions_table.c.kind == consents.KIND,  # that of the first run
                and_(decisions_table.c.kind == KIND, decisions_table.c.detail["accepted"].as_boolean()),
            ),
        )
    ).scalar()
    moments = list(
        connection.execute(
            select(runs.c.created)
            .where(
                runs.c.strategy == STRATEGY,
                runs.c.status == RunState.SUCCEEDED,
                literal(job) == any_(runs.c.jobs),
            )
            .order_by(runs.c.id.desc())
            .limit(INTERVALS + 1)
        ).scalars()
    )
    gaps = [later - earlier for later, earlier in pairwise(moments)]
    return Expected(
        rows=None if accepted is None else ROWS_FACTOR * accepted,
        last=moments[0] if moments else None,
        longest=max([*gaps, SHORTEST]) if gaps else None,
    )


def was_checked(connection: Connection, run_id: int, job: JobId) -> bool:
    """Whether that run has passed its check: it is resumed then, and not asked again."""
    statement = select(decisions_table.c.id).where(
        decisions_table.c.kind == KIND,
        decisions_table.c.job == job,
        cast(decisions_table.c.detail["run"].astext, BigInteger) == run_id,
    )
    return connection.execute(statement.limit(1)).first() is not None


def record(connection: Connection, run_id: int, job: JobId, number: int, *, accepted: bool) -> None:
    """That run found *number* rows due; *accepted*: by the operator, by count."""
    decisions.record(connection, KIND, job, number, run=run_id, accepted=accepted)


def other_unfinished(connection: Connection, jobs: Sequence[JobId]) -> int | None:
    """A run of one of *jobs* that is no due run and is not done: ours would end it."""
    return connection.execute(
        select(runs.c.id)
        .where(
            runs.c.status.in_(UNFINISHED),
            runs.c.status != RunState.CANCELLING,
            runs.c.strategy != STRATEGY,
            runs.c.jobs.op("&&")(cast(list(jobs), ARRAY(Text))),
        )
        .order_by(runs.c.id.desc())
        .limit(1)
    ).scalar()
