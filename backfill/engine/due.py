"""Due: the strategy of a run for a timer: only rows that are old enough, only the blocks that hold them, and bounded.

More due rows than were ever accepted, or a clock that is further on than the timer's intervals, end the run before
its first row: nobody is there to be asked, and what is rewritten in place is rewritten for good.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backfill import escaping
from backfill.database.blocks import Range, heap_of
from backfill.engine.in_place import InPlace
from backfill.engine.run_context import RunContext
from backfill.engine.run_phases import RunPhases
from backfill.errors import ClockJumped, TooManyDue
from backfill.jobs import due_rows
from backfill.jobs.due_rows import DueRows
from backfill.ledger import batches, due_runs
from backfill.ledger.due_runs import INTERVAL_FACTOR, ROWS_FACTOR
from backfill.ledger.phases import RESOLVE
from backfill.plan import InPlaceJob

FEW = 0.25  # of the rows in the blocks: more passes would only read those blocks again


@dataclass
class Due(InPlace):
    """Rewrites what is due. *accepted*: up to so many rows may be due in all, whatever is on record."""

    name: str = due_runs.STRATEGY
    accepted: int | None = None
    passes: int | None = None
    _begun: bool = field(default=False, init=False)

    def begin(self, phases: RunPhases) -> None:
        """Find the due rows and their blocks. Raises ``TooManyDue``, ``ClockJumped`` before a row is written."""
        if self._begun:
            return
        context, within = phases.context, phases.scheduler.within
        jobs = [job for job in context.jobs if isinstance(job, InPlaceJob)]
        if all(_is_checked(context, job) for job in jobs):  # resumed
            within.update(
                {job.identity: spans for job in jobs if (spans := _resolved(phases, job)) is not None}
            )
        else:
            found = {job: due_rows.find(context.engine, context.schema, job, lambda: context.control.checkpoint(context.run)) for job in jobs}  # fmt: skip
            self._require_expected(context, found)
            within.update({job.identity: due.within for job, due in found.items()})
            if all(due.share < FEW for due in found.values()):
                self.passes = 1
            for job, due in found.items():
                _tell(context, job, due)
        self._begun = True

    def _require_expected(self, context: RunContext, found: Mapping[InPlaceJob, DueRows]) -> None:
        """Raises where a number or the clock is not what was seen before; otherwise puts what was found on record."""
        total = sum(due.rows for due in found.values())
        accepted = self.accepted is not None and total <= self.accepted
        with context.engine.begin() as connection:
            for job, due in found.items():
                known = due_runs.expected(connection, job.identity)
                if due.rows and not accepted:
                    _require_rows(job, due.rows, known.rows, total)
                    _require_clock(context, known, total)
            for job, due in found.items():
                due_runs.record(connection, context.run.id, job.identity, due.rows, accepted=accepted)


def _require_rows(job: InPlaceJob, number: int, expected: int | None, total: int) -> None:
    most = job.max_due if job.max_due is not None else expected
    if most is not None and number <= most:
        return
    if job.max_due is not None:
        bound = f"max_due of the plan allows {job.max_due:,}"
    elif most is not None:
        bound = f"{most:,} are allowed, {ROWS_FACTOR} times the largest run that was accepted"
    else:
        bound = "no due run of it was accepted yet"
    raise TooManyDue(job=job.label, rows=f"{number:,}", bound=bound, total=total)


def _require_clock(context: RunContext, known: due_runs.Expected, total: int) -> None:
    if known.last is None or known.longest is None:
        return
    ahead = context.run.created - known.last
    if ahead > INTERVAL_FACTOR * known.longest:
        raise ClockJumped(now=f"{context.run.created:%Y-%m-%d %H:%M:%S}", ahead=ahead, longest=known.longest, total=total)  # fmt: skip


def _is_checked(context: RunContext, job: InPlaceJob) -> bool:
    with context.engine.begin() as connection:
        return due_runs.was_checked(connection, context.run.id, job.identity)


def _resolved(phases: RunPhases, job: InPlaceJob) -> list[Range] | None:
    """The blocks that an earlier attempt has planned; None, for the whole table, where they lie elsewhere now."""
    context, noted = phases.context, phases.scheduler.tables.get(job.identity)
    with context.engine.begin() as connection:
        if noted is None or heap_of(connection, job).filenode != noted.filenode:
            return None
        rows = batches.phase(connection, context.run.id, RESOLVE)
    spans = sorted((row.first_block, row.last_block) for row in rows if row.job == job.identity)
    found: list[Range] = []
    for first, last in spans:
        if found and found[-1].last == first:
            found[-1] = Range(found[-1].first, last)
        else:
            found.append(Range(first, last))
    return found


def _tell(context: RunContext, job: InPlaceJob, due: DueRows) -> None:
    blocks = min(sum(span.last - span.first for span in due.within), due.heap.blocks)
    how = "by the index on its time" if due.by_index else "by reading all of it: no index leads to old rows"
    context.tell(
        f"{job.label}: {escaping.counted(due.rows, 'row is', 'rows are')} due, in at most {blocks:,} of "
        f"{due.heap.blocks:,} blocks; found {how}."
    )
