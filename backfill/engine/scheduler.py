"""Batch scheduler: chooses, sizes and splits block ranges, and takes in the results."""

import time
from collections.abc import Callable
from typing import Any

from psycopg2 import sql
from sqlalchemy import Row

from backfill.database.blocks import Range, heap_of
from backfill.database.connection import value
from backfill.database.lock_retry import lock_holders
from backfill.database.quoting import regclass
from backfill.database.transient import TransientError
from backfill.engine.leases import Leases
from backfill.engine.run_batch import BatchResult
from backfill.engine.run_context import Failed, RunContext
from backfill.engine.sizing import FIRST_BLOCKS, Sizer
from backfill.job_id import JobId
from backfill.ledger import batches, claims, runs
from backfill.ledger.batches import Batch
from backfill.ledger.claims import LEASE_SECONDS
from backfill.ledger.phases import LINK, Phase, Work
from backfill.raw_column import RawColumn

SWEEP_FACTOR = 4  # a sweep reads much and writes little: larger ranges
TAIL_BLOCKS = 2_000  # in all passes together: smaller, a transaction's statements cost more than its rows
LOOK_SECONDS = 1.0  # between two looks at the leases
LOCKED = (TransientError.LOCK_TIMEOUT.value, TransientError.TABLE_LOCKED.value)  # how such an error begins
OUT_OF_RESOURCES = "53"  # disk full, out of memory: every other batch would fail as well


class BatchScheduler:
    """One run's, for its driver. *pinned* says whether an old snapshot makes several passes useless."""

    def __init__(self, context: RunContext, pinned: Callable[[], bool]) -> None:
        self._context, self._pinned = context, pinned
        self._sizers: dict[tuple[Work, bool], Sizer] = {}
        self.tables: dict[JobId, Row[Any]] = {}  # the run's tables as noted, by job
        self._leases, self._looked = Leases(LEASE_SECONDS), 0.0
        # By job: where a sweep has something to do. A table that is not in it is swept as a whole.
        self.left: dict[JobId, list[Range]] = {}
        # By job: the only blocks that the run looks at. A table that is not in it is gone over as a whole.
        self.within: dict[JobId, list[Range]] = {}
        self._picked: dict[int, JobId] = {}  # batches of this attempt, by number
        self.done = 0  # batches of this attempt that came to their end: whoever counts setbacks asks
        self.read_tables()

    def read_tables(self) -> None:
        """Know the run's tables as the ledger has them now."""
        with self._context.engine.begin() as connection:
            self.tables = runs.planned(connection, self._context.run.id)

    def plan(self, phase: Phase, part: RawColumn, passes: int = 1) -> None:
        """Enter the phase's one range for that table, unless it is there; it is split as it is worked on."""
        run_id = self._context.run.id
        with self._context.engine.begin() as connection:
            known = {row.job for row in batches.phase(connection, run_id, phase)}
            if part.identity in known:
                return
            heap = heap_of(connection, part)
            if phase == LINK or part.identity not in self.tables:
                runs.plan_table(connection, run_id, part.identity, heap)
                self.tables = runs.planned(connection, run_id)
            # An empty table has one empty batch, so that it counts as planned.
            whole = self.within.get(part.identity, [Range(0, heap.blocks)])
            parts = self.left.get(part.identity, whole) if phase.is_sweep else whole
            batches.plan(connection, run_id, phase, part.identity, parts or [Range(0, 0)], passes)

    def is_planned(self, phase: Phase) -> bool:
        """Whether the phase was begun, by us or by a driver before us."""
        with self._context.engine.begin() as connection:
            return bool(batches.phase(connection, self._context.run.id, phase))

    def forget_rewritten(self, phase: Phase) -> None:
        """Drop the ranges of every table that has another file: a VACUUM FULL rarely comes alone."""
        run_id = self._context.run.id
        for job in self._context.jobs:
            with self._context.engine.begin() as connection:
                heap = heap_of(connection, job)
                if heap.filenode == self.tables[job.identity].filenode:
                    continue
                batches.forget(connection, run_id, phase=phase, job=job.identity)
                self.left.pop(job.identity, None)  # it lies elsewhere now
                self.within.pop(job.identity, None)
                runs.plan_table(connection, run_id, job.identity, heap)
                self.tables = runs.planned(connection, run_id)
            self._context.tell(
                f"{job.name} was rewritten meanwhile (VACUUM FULL, CLUSTER): planning its blocks again."
            )

    def pick(
        self, phase: Phase, besides: frozenset[int] = frozenset(), only: RawColumn | None = None
    ) -> Batch | None:
        """The next batch, of any table or *only* that one, as large as its phase allows now.

        *besides* are in somebody's hands.
        """
        context, size = self._context, self._sizer(phase).blocks
        with context.engine.begin() as connection:
            if phase.by_workers:
                # Workers are to end together: an even share of what is left, once that is less.
                left = batches.blocks_left(connection, context.run.id, phase, besides)
                least = TAIL_BLOCKS // (context.settings.passes if phase == LINK else 1)
                size = min(size, max(left // context.settings.workers, least))
            parts = [only] if only else [*context.jobs, *context.plan.address_tables]
            batch = batches.pick(
                connection,
                context.run.id,
                phase,
                jobs=[part.identity for part in parts if not self._waits(phase, part, besides)],
                blocks=size,
                one_pass=self._pinned(),
                besides=besides,
            )
            if batch is not None:
                runs.note(connection, context.run.id, batch_blocks=size)
                self._picked[batch.id] = batch.job
        return batch

    def _waits(self, phase: Phase, part: RawColumn, besides: frozenset[int]) -> bool:
        """Somebody is at work on the same rows: for an earlier job of the table, which may be writing that one's values."""
        if not phase.by_workers:
            return False
        held = {self._picked[number] for number in besides if number in self._picked}
        for job in self._context.jobs:
            if job.identity == part.identity:
                return False
            if job.identity in held and (job.schema_, job.table) == (part.schema_, part.table):
                return True
        return False

    def beside(self, batch: Batch) -> tuple[JobId, ...]:
        """Jobs of the same table whose batches come after that one. None, where only some blocks are looked at."""
        names = [job.identity for job in self._context.jobs]
        if self.within or batch.job not in names:
            return ()
        after = self._context.jobs[names.index(batch.job) + 1 :]
        this = self._context.jobs[names.index(batch.job)]
        return tuple(job.identity for job in after if (job.schema_, job.table) == (this.schema_, this.table))

    def take_back(self) -> set[int]:
        """Take back what workers hold of whom nothing is heard any more; returns those batches."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return set()
        self._looked = time.monotonic()
        with self._context.engine.begin() as connection:
            gone = self._leases.silent(claims.leases(connection, self._context.run.id))
            return set(claims.take_back(connection, gone)) if gone else set()

    def take_in(self, result: BatchResult, batch: Batch) -> int:
        """Learn from what became of a batch; returns the rows that are done with it.

        Raises ``Failed`` for what would meet every other batch as well.
        """
        tell, blocks = self._context.tell, batch.range.last - batch.range.first
        if result.counts is not None:
            self.done += 1
            # A sweep finds most rows done, and would never grow.
            written = result.counts.written if batch.phase == LINK else None
            self._sizer(batch.phase).measured(blocks, result.counts.seconds, written)
            return self._rows(batch)
        if result.halved is not None:
            self._sizer(batch.phase).timed_out(blocks)
            tell(
                f"{self._context.plan.label(batch.job)}: {blocks} blocks met {result.halved} three times; halved."
                f"{self.in_the_way(batch.job, result.halved)}"
            )
        elif result.error is not None:
            self._context.observe(
                "batch-failed",
                run=self._context.run.id,
                table=self._context.plan.label(batch.job),
                error=result.error,
            )
            tell(
                f"{self._shown(batch)} could not be done: {result.error.rstrip('.')}."
                f"{self.in_the_way(batch.job, result.error)} Going on with the others."
            )
            if result.error.startswith(OUT_OF_RESOURCES):
                raise Failed(f"{self._shown(batch)}: {result.error}")
        return 0

    def in_the_way(self, job: JobId, error: str) -> str:
        """After an *error* that says that somebody's lock was in the way: who has one on the table now, as a sentence."""
        part = next((part for part in self._context.plan.parts if part.identity == job), None)
        if part is None or not error.startswith(LOCKED):
            return ""
        with self._context.engine.begin() as connection:
            number = value(connection, sql.SQL("select {}::oid").format(regclass(part)))
            who = lock_holders(connection, str(number), others=True)
        return f" Holding locks on {part.name}: {who}." if who else ""

    def shrink(self) -> None:
        """Halve every size: a range timed out while it was read ahead of its batch."""
        for sizer in self._sizers.values():
            sizer.timed_out(sizer.blocks)

    def is_open(self, phase: Phase, only: RawColumn | None = None) -> bool:
        """Whether any of the phase is left to do, for any table or *only* that one."""
        jobs = [only.identity] if only else None
        with self._context.engine.begin() as connection:
            return batches.open_batches(connection, self._context.run.id, phase, jobs=jobs) > 0

    def written(self, phase: Phase) -> int:
        """Rows that the phase has written so far."""
        with self._context.engine.begin() as connection:
            return batches.written(connection, self._context.run.id, phase)

    def rows(self, phase: Phase, only: RawColumn | None = None) -> tuple[int, int]:
        """Rows of the phase, and those of its batches that are done; of all tables or *only* of that one.

        As the planner estimates them.
        """
        with self._context.engine.begin() as connection:
            found = batches.phase(connection, self._context.run.id, phase)
        total = done = 0
        for row in found:
            if only is None or row.job == only.identity:
                number = self._rows(Batch.of(row))
                total += number
                done += number * (row.finished is not None)
        return total, done

    def _sizer(self, phase: Phase) -> Sizer:
        """How large the phase's batches are; sweeps of a kind share one."""
        settings = self._context.settings
        if phase.cost not in self._sizers:
            ceiling = settings.batch_blocks * (SWEEP_FACTOR if phase.is_sweep else 1)
            # A pass of eight writes an eighth of the rows: what is right for one pass is small for it.
            first = FIRST_BLOCKS * (settings.passes if phase == LINK else 1)
            self._sizers[phase.cost] = Sizer(settings.target_seconds, min(ceiling, 2**31), first)
        return self._sizers[phase.cost]

    def _rows(self, batch: Batch) -> int:
        """The rows of a batch as the planner estimates them, for the bar; blocks added since hold moved rows."""
        noted = self.tables[batch.job]
        first, last = (min(block, noted.blocks) for block in (batch.range.first, batch.range.last))
        return int(noted.rows * (last - first) / max(noted.blocks, 1))

    def _shown(self, batch: Batch) -> str:
        label = self._context.plan.label(batch.job)
        return f"{label}, blocks {batch.range.first} to {batch.range.last},"
