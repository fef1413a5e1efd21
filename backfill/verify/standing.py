"""Standing check: "no row shows a raw address older than …", of every job with ``after``, from the tables as they are.

It needs neither salt nor run: it looks at all rows, by the form of their values. What it does not look at is part of
its answer, with the date of the last erase: a retention that never erases is not called erased.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, select

from backfill.ledger import erasures, quarantine
from backfill.ledger.tables import pseudonym_prefixes
from backfill.plan import InPlaceJob
from backfill.verify import ages
from backfill.verify.ages import Ages

TABLE = "table"  # a step of ``erase`` that rewrote one


@dataclass(frozen=True)
class JobAges:
    """One job."""

    label: str
    becomes: str
    after: timedelta
    ages: Ages
    waiting: int  # rows in the quarantine, of any age
    erased: datetime | None  # when its table was rewritten last, by ``erase``

    @property
    def is_late(self) -> bool:
        """A raw value is older than it may be."""
        return self.ages.late > 0


@dataclass(frozen=True)
class Standing:
    """All jobs with ``after``."""

    jobs: tuple[JobAges, ...]
    grace: timedelta  # by which a row may be older than ``after``

    @property
    def is_late(self) -> bool:
        """Any of them."""
        return any(job.is_late for job in self.jobs)


def look(engine: Engine, schema: str, jobs: Sequence[InPlaceJob], grace: timedelta = timedelta()) -> Standing:
    """Each table as a whole, one after the other, a snapshot each. *grace*: between two runs of a timer, rows get due."""
    found = []
    with engine.begin() as connection:
        prefix = connection.execute(
            select(pseudonym_prefixes.c.prefix)
        ).scalar()  # one key id has one, and no other
        erased = {
            row.target: row.finished
            for row in erasures.standing(connection)
            if row.kind == TABLE and row.status == erasures.DONE
        }
        waiting = {job: sum(reasons.values()) for job, reasons in quarantine.counts(connection).items()}
    for job in jobs:
        if job.after is None:
            continue
        asked = job.model_copy(update={"after": job.after + grace})
        with engine.connect() as connection:
            seen = ages.look(connection, asked, ages.still_raw(connection, job, prefix))
            connection.rollback()
        found.append(
            JobAges(
                job.label, job.becomes, job.after, seen, waiting.get(job.identity, 0), erased.get(job.name)
            )
        )
    return Standing(tuple(found), grace)
