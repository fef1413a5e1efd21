"""In place: link → fill → sweep → close. Rows are updated where they are.

Where rows moved or arrived meanwhile, they are swept and counted again, three times at most.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from backfill.database.row_key import row_key
from backfill.engine.run_context import RunContext
from backfill.engine.run_phases import RunPhases
from backfill.job_id import JobId
from backfill.jobs import closing_count, due_rows, kept_rows
from backfill.jobs.closing_count import Counted
from backfill.jobs.kinds import writer_of
from backfill.ledger import batches, quarantine, runs
from backfill.ledger.phases import CLOSE, LINK, RESOLVE, Phase, Work
from backfill.ledger.runs import TableCount
from backfill.plan import InPlaceJob, Job, LinkJob

SWEEPS = 3  # under constant inserts there is always one row more


@dataclass
class InPlace:
    """The strategy that updates the rows of the application's table."""

    name: str = "in-place"
    keeps_map: bool = False
    passes: int | None = None  # over each batch; None: as the settings say
    _found: dict[JobId, Counted] = field(
        default_factory=dict, init=False
    )  # the rows as they are when all is done

    def begin(self, phases: RunPhases) -> None:
        """Nothing: all blocks are gone over."""

    def work(self, phases: RunPhases) -> None:
        """Link, fill, and sweep while the count finds something that a sweep could do."""
        phases.link(LINK, self.passes or phases.context.settings.passes)
        phases.fill()
        self._found = _counted(phases)

    def close(self, phases: RunPhases) -> list[TableCount]:
        """Enter what was counted, and say which rows a trigger of the application keeps as they are."""
        context = phases.context
        with context.engine.begin() as connection:
            refused = {batch.job for batch in batches.failures(connection, context.run.id)}
        counts = []
        for job in context.jobs:
            found = self._found[job.identity]
            # Where batches were refused, it is known why rows are left: a trigger that raises would raise again.
            kept = 0 if job.identity in refused else _kept(context, job, found)
            unreadable = self._unreadable(phases, job, found)
            with context.engine.begin() as connection:
                unfinished = writer_of(job, context.schema).unfinished
                quarantine.release_fixed(connection, context.schema, job, unfinished)
                if unreadable is not None:
                    quarantine.enter_counts(connection, job, context.run.id, unreadable)
                count = self._count(phases, connection, job, found, kept)
                runs.close_table(connection, context.run.id, count)
            counts.append(count)
        return counts

    def _unreadable(self, phases: RunPhases, job: Job, found: Counted) -> Mapping[str, int] | None:
        """Rows of the whole table by the reason why their text is no address; None where each has a name."""
        context = phases.context
        with context.engine.begin() as connection:
            if row_key(connection, job).columns:
                return None
        if isinstance(job, InPlaceJob) and job.identity in phases.scheduler.within:
            return due_rows.find(context.engine, context.schema, job, lambda: None).unreadable
        return found.reasons

    def _count(
        self, phases: RunPhases, connection: Connection, job: Job, found: Counted, kept: int
    ) -> TableCount:
        run_id = phases.context.run.id
        written = batches.written_by_workers(connection, run_id, job.identity)
        if job.identity in phases.scheduler.within:
            return found.closing_of_due(job, written, kept)
        already = batches.already_linked(connection, run_id, RESOLVE, job.identity)
        if isinstance(job, InPlaceJob) and job.deletes:
            # Of rows that were done before, some were deleted as duplicates of those that are done now.
            already = max(0, min(already, found.linked - written))
        emptying = isinstance(job, InPlaceJob) and job.empties
        return found.closing(job, already, kept, written if emptying else 0)

    def clear_up(self, phases: RunPhases) -> None:
        """Nothing: what was linked stays linked."""


def _counted(phases: RunPhases) -> dict[JobId, Counted]:
    """The rows of all tables as they are, once nothing is left that a sweep could do."""
    context = phases.context
    for number in range(1, SWEEPS + 2):
        with phases.entered(CLOSE):
            found = closing_count.count_rows(
                context.engine,
                context.schema,
                context.plan,
                context.jobs,
                context.settings.workers,
                lambda: context.control.checkpoint(context.run),
                phases.scheduler.within,
            )
        if number > SWEEPS or not any(counted.left for counted in found.values()):
            break
        phases.scheduler.left = {name: counted.where_left() for name, counted in found.items()}
        # One that a driver before us has begun went where that one had found something.
        begun = phases.scheduler.is_planned(Phase(Work.RESOLVE, number))
        if _sweep(phases, number) == 0 and not begun:
            break
    return found


def _sweep(phases: RunPhases, number: int) -> int:
    """Rows that moved or came while we were at work, where the count has seen them; returns what it did."""
    entered = phases.resolve(Phase(Work.RESOLVE, number))
    return entered + phases.link(Phase(Work.LINK, number), 1)


def _kept(context: RunContext, job: Job, found: Counted) -> int:
    """Rows that were left because a trigger keeps them as they are."""
    if not found.left:
        return 0
    kept = kept_rows.count(context.engine, context.schema, job, found.where_left(), context.timeouts)
    if kept:
        context.tell(
            f"{job.label}: {kept:,} rows stay {'without a link' if isinstance(job, LinkJob) else 'as they are'} although they were updated (of at most {kept_rows.MOST:,} "
            "that were tried once more): a trigger of the application keeps them as they are. `backfill plan` names "
            "the triggers; disable the one that does it, and run again."
        )
    return kept
