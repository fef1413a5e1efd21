"""Standing check: "no row shows a raw address older than …", of every job with ``after``, from the tables as they are.

It needs neither salt nor run: it looks at all rows, by the form of their values. What it does not look at is part of
its answer, with the date of the last erase: a retention that never erases is not called erased.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from backfill.ledger import erasures, quarantine
from backfill.ledger.tables import pseudonym_prefixes
from backfill.plan import InPlaceJob, Plan
from backfill.verify import ages, ahead
from backfill.verify.ages import Ages

KEPT_FIX = (
    'correct these rows, or set unreadable = "nothing" in the plan, with a constant where NULL is not allowed'
)
LIST = "backfill quarantine list"
TABLE = "table"  # a step of ``erase`` that rewrote one


@dataclass(frozen=True)
class JobAges:
    """One job."""

    label: str
    becomes: str
    after: timedelta
    ages: Ages
    waiting: int  # rows that wait in the quarantine, of any age: no run does anything about them
    keeps: bool  # a text that is no address, by the plan
    erased: datetime | None  # when its table was rewritten last, by ``erase``
    column: str  # table and column, for people
    accepts_ahead: bool = False  # rows in the future are known to the operator
    ahead_fix: str = ""  # what helps where they are not

    @property
    def is_late(self) -> bool:
        """A raw value is older than it may be, or a kept text in which an address may stand."""
        return self.ages.is_late

    @property
    def unknown(self) -> bool:
        """More rows lie in the future than anybody accepted: how old they are is not known."""
        return not self.accepts_ahead and ahead.too_many(self.ages.ahead, self.ages.rows)

    @property
    def holds(self) -> bool:
        """Nothing is late, and the times can be believed."""
        return not self.is_late and not self.unknown


@dataclass(frozen=True)
class Standing:
    """All jobs with ``after``."""

    jobs: tuple[JobAges, ...] = ()
    grace: timedelta = timedelta()  # by which a row may be older than ``after``

    @property
    def is_late(self) -> bool:
        """Any of them."""
        return any(job.is_late for job in self.jobs)

    @property
    def holds(self) -> bool:
        """All of them do."""
        return all(job.holds for job in self.jobs)


def look(connection: Connection, schema: str, plan: Plan, grace: timedelta = timedelta()) -> Standing:
    """The jobs of *plan* that have an age, each table as a whole, one after the other, a snapshot each.

    *schema*: of the ledger. *grace*: between two runs of a timer, rows get due. *connection* is in no transaction, and in none afterwards.
    """
    aging = [job for job in plan.in_place_jobs if job.after is not None]
    if not aging:
        return Standing((), grace)
    prefix = connection.execute(
        select(pseudonym_prefixes.c.prefix)
    ).scalar()  # one key id has one, and no other
    erased = {
        row.target: row.finished
        for row in erasures.standing(connection)
        if row.kind == TABLE and row.status == erasures.DONE
    }
    waiting = quarantine.counts(connection)
    accepted = ahead.accepted_names(connection, schema, plan)
    connection.rollback()
    found = []
    for job in aging:
        found.append(
            JobAges(
                label=job.label,
                becomes=job.becomes,
                after=job.after or timedelta(),
                ages=_ages(connection, job, grace, prefix),
                waiting=sum(
                    number
                    for reason, number in waiting.get(job.identity, {}).items()
                    if job.unreadable != "keep" or reason == quarantine.DUPLICATE_RESULT
                ),
                keeps=job.unreadable == "keep",
                erased=erased.get(job.name),
                column=f"{job.name}.{job.raw}",
                accepts_ahead=ahead.is_accepted(job, accepted),
                ahead_fix=ahead.fix(job),
            )
        )
        connection.rollback()
    return Standing(tuple(found), grace)


def _ages(connection: Connection, job: InPlaceJob, grace: timedelta, prefix: int | None) -> Ages:
    asked = job.model_copy(update={"after": (job.after or timedelta()) + grace})
    return ages.look(connection, asked, ages.still_raw(connection, job, prefix))
