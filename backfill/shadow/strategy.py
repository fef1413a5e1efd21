"""The copy strategy: resolve and fill as in place, then each table built, replayed and compared."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from backfill import escaping
from backfill.database.connection import problem_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.engine.control import Cancel, LockLost
from backfill.engine.run_context import RunContext
from backfill.engine.run_phases import RunPhases
from backfill.errors import RunTakenOver
from backfill.jobs.row_needs import unlinked
from backfill.ledger import batches, quarantine, runs, shadow_copies
from backfill.ledger.claims import Stopped
from backfill.ledger.phases import CLOSE, RESOLVE
from backfill.ledger.runs import TableCount
from backfill.plan import LinkJob, links
from backfill.shadow.cutover import Cutover, discard
from backfill.shadow.expected_rows import ExpectedRows
from backfill.shadow.table_copy import TableCopy


@dataclass(frozen=True)
class ShadowCopies:
    """The strategy whose rows go into new tables. The run ends before the cut-over, which is *cutover*'s."""

    cutover: Cutover
    name: str = "shadow"
    keeps_map: bool = True  # until the last copy serves: the replay looks texts up

    def begin(self, phases: RunPhases) -> None:
        """Nothing: tables are copied as a whole."""

    def work(self, phases: RunPhases) -> None:
        """Fill, then copy one table after the other, and compare every row of it."""
        phases.fill()
        context = phases.context
        expected = ExpectedRows(context.engine, context.schema, self.cutover.resolver)
        with expected, expected.ahead(links(context.jobs), context.plan.addresses, _reads_on(context)):
            for job in links(context.jobs):
                TableCopy(phases, job, self.cutover).make(expected)

    def close(self, phases: RunPhases) -> list[TableCount]:
        """Count from the comparison."""
        context, counts = phases.context, []
        with phases.entered(CLOSE):
            for job in links(context.jobs):
                with context.engine.begin() as connection:
                    quarantine.release_fixed(connection, context.schema, job, unlinked(job))
                    already = batches.already_linked(connection, context.run.id, RESOLVE, job.identity)
                    entry = shadow_copies.shadow_of(connection, job)
                    count = _counted(job, dict(entry.counts) if entry is not None else {}, already)
                    runs.close_table(connection, context.run.id, count)
                counts.append(count)
        return counts

    def clear_up(self, phases: RunPhases) -> None:
        """A run that was cancelled takes its copies with it."""
        context = phases.context
        for job in links(context.jobs):
            try:
                if discard(
                    context.engine, context.schema, job, context.run.id, context.settings.lock_timeout_ms
                ):
                    context.tell(f"The copy of {job.label} is removed, with everything that belonged to it.")
            except DRIVER_ERRORS as error:
                context.tell(
                    f"The copy of {job.label} could not be removed ({problem_of(error)}): "
                    f"`backfill run --abandon {escaping.word(job.label)}`."
                )


def _reads_on(context: RunContext) -> Callable[[], bool]:
    """Whether the next range of texts may be read ahead; rests as long as every batch does.

    Holds and orders are the driver's to wait for: the comparison reads what is missing.
    """
    last = time.monotonic()

    def reads_on() -> bool:
        nonlocal last
        try:
            context.control.sleep(context.settings.nice * (time.monotonic() - last))
            last = time.monotonic()
            return not context.control.waits(context.run)
        except (Stopped, Cancel, LockLost, RunTakenOver, *DRIVER_ERRORS):
            return False

    return reads_on


def _counted(job: LinkJob, counts: dict[str, int], already: int) -> TableCount:
    linked, total = counts.get("linked", 0), counts.get("rows", 0)
    rejected = counts.get("rejected", 0)
    return TableCount(
        job=job.identity,
        rows=total,
        linked=linked - min(already, linked),
        already_linked=min(already, linked),
        no_address=total - linked - rejected,
        quarantined=rejected,
        left_to_live=0,
    )
