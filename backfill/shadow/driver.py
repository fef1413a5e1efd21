"""Driver of a copying run: resolve and fill as in place, then each table built, replayed and compared."""

import uuid
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection
from tenacity import RetryCallState

from backfill.database.engine import execute
from backfill.database.heap import Range, heap_of, ranges
from backfill.database.inspection import key_type
from backfill.database.names import table
from backfill.database.patience import patiently
from backfill.errors import CannotBeCopied, ShadowDiffers, ShadowExists
from backfill.jobs.link import TableRewritten
from backfill.ledger import batches, quarantine, runs, shadows
from backfill.ledger.address_map import MapIncomplete
from backfill.ledger.batches import Batch, Stopped
from backfill.ledger.runs import TableCount
from backfill.ledger.shadows import Stage
from backfill.ledger.status import RunStatus
from backfill.plan import Job
from backfill.progress import Progress
from backfill.runner import RESOLVE, Driver, _Failed, _MapEmptied, _Paused
from backfill.shadow import build, catalog, names
from backfill.shadow.catalog import Blueprint
from backfill.shadow.cutover import Cutover, leftovers

COPY, INDEX, REPLAY, COMPARE, CLOSE = "copy", "index", "replay", "compare", "close"
RELOADS = 3  # of a table that somebody keeps rewriting


def require_copyable(connection: Connection, job: Job) -> None:
    """Raises ``CannotBeCopied`` or ``ShadowExists``; changes nothing."""
    before = leftovers(connection, job)
    if before is not None:
        raise ShadowExists(
            table=job.name,
            state=f"{before} of an earlier cut-over is still there",
            mend=f"Next: `backfill cutover --finish {job.name}`.",
        )
    what = catalog.refusals(connection, job)
    connection.rollback()
    if what:
        raise CannotBeCopied(table=job.name, what="; ".join(what))


@dataclass
class ShadowDriver(Driver):
    """A run whose rows go into a new table. ``drive`` ends before the cut-over."""

    strategy: str = "shadow"

    def cutover(self, fingerprint: str) -> Cutover:
        """The cut-over that goes with this run."""
        return Cutover(
            self.engine,
            self.schema,
            self.plan,
            fingerprint,
            self.resolver,
            self.settings.lock_timeout_ms,
            self.tell,
        )

    def _work(self) -> None:
        self._fill()
        for job in self.jobs:
            blueprint = self._begun(job)
            self._load(job, blueprint)
            self._enter(INDEX)
            with self.engine.begin() as connection:
                build.drop_noted(connection, self.schema, job)
            build.build_indexes(self.engine, job, blueprint, self.settings.workers)
            build.add_foreign_keys(self.engine, job, blueprint, self.settings.lock_timeout_ms)
            with self.engine.begin() as connection:
                execute(connection, sql.SQL("analyze {}").format(table(names.shadow(job))))
            self._halt_if_told()
            self._compare(job)

    def _begun(self, job: Job) -> Blueprint:
        """The copy that this run has begun, or now begins."""
        with self.engine.begin() as connection:
            entry = shadows.of(connection, job.name)
            blueprint = catalog.read(connection, job)
        if entry is None:

            def begin(connection: Connection) -> Blueprint:
                return build.begin(connection, self.schema, job, self.run.id)

            return patiently(self.engine, self.settings.lock_timeout_ms, begin, between=self._say_busy(job))
        if entry.run_id != self.run.id:
            raise _Failed(
                f"{job.name} has a copy of another run; remove it with `backfill run --abandon {job.name}`"
            )
        if entry.stage == Stage.SWAPPED:
            raise _Failed(f"{job.name} was cut over already")
        if entry.fingerprint != blueprint.fingerprint:
            raise _Failed(
                f"the definition of {job.name} was changed after the copy was begun; "
                f"`backfill run --abandon {job.name}`, and begin again"
            )
        return blueprint

    def _say_busy(self, job: Job) -> "_Say":
        return _Say(self, job)

    def _load(self, job: Job, blueprint: Blueprint) -> None:
        self._enter(COPY)
        for _ in range(RELOADS):
            filenode = self._planned_copy(job)
            waiting = [batch for batch in self._open(COPY) if batch.table_name == job.name]
            try:
                self._load_once(job, blueprint, waiting, filenode)
            except TableRewritten:
                self.tell(f"{job.name} was rewritten meanwhile (VACUUM FULL, CLUSTER): copying it again.")
                with self.engine.begin() as connection:
                    execute(connection, sql.SQL("truncate {}").format(table(names.shadow(job))))
                    batches.forget(connection, self.run.id, phase=COPY, table_name=job.name)
            except MapIncomplete:
                raise _MapEmptied from None
            else:
                return
        raise _Failed(f"{job.name} keeps being rewritten")

    def _planned_copy(self, job: Job) -> int:
        """Plan the copy's batches, once the capture is on; returns the file that they are about."""
        with self.engine.begin() as connection:
            known = {row.table_name for row in batches.phase(connection, self.run.id, COPY)}
            if job.name not in known:
                heap = heap_of(connection, job)
                runs.plan_table(connection, self.run.id, job.name, heap)
                spans = list(ranges(heap.blocks, self.settings.batch_blocks)) or [Range(0, 0)]
                batches.plan(connection, self.run.id, COPY, job.name, spans, 1)
            self._tables = runs.planned(connection, self.run.id)
        return int(self._tables[job.name].filenode)

    def _load_once(self, job: Job, blueprint: Blueprint, waiting: list[Batch], filenode: int) -> None:
        """Threads: the server does the work, and a thread that waits for it holds nobody up."""
        with (
            Progress(f"{COPY} {job.name}", sum(map(self._rows, waiting)), quiet=self.quiet) as progress,
            ThreadPoolExecutor(self.settings.workers, COPY) as pool,
        ):
            running: dict[Future[None], Batch] = {}
            for batch in self._unless_told(waiting):
                running[pool.submit(self._load_batch, job, blueprint, batch, filenode)] = batch
                if len(running) > self.settings.workers:
                    self._reap(running, progress)
            while running:
                self._reap(running, progress)

    def _unless_told(self, waiting: list[Batch]) -> Iterator[Batch]:
        for batch in waiting:
            self._halt_if_told()
            yield batch

    def _reap(self, running: "dict[Future[None], Batch]", progress: Progress) -> None:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            batch = running.pop(future)
            future.result()
            progress.advance(self._rows(batch))

    def _load_batch(self, job: Job, blueprint: Blueprint, batch: Batch, filenode: int) -> None:
        with self.engine.begin() as connection:
            claimed = batches.claim(connection, batch.id)
        if claimed is None:
            raise _Failed(f"another process holds batch {batch.id} of {batch.table_name}")
        lease: uuid.UUID = claimed[1]
        try:
            build.load(self.engine, self.schema, job, blueprint, claimed[0], lease, filenode)
        except (TableRewritten, MapIncomplete, Stopped) as reason:
            with self.engine.begin() as connection:
                batches.release(connection, batch.id, lease)
            if isinstance(reason, Stopped):
                raise _Paused from None
            raise

    def _compare(self, job: Job) -> None:
        self._enter(COMPARE)
        with Progress(
            f"{COMPARE} {job.name}", int(self._tables[job.name].rows), quiet=self.quiet
        ) as progress:
            try:
                self.cutover(self.run.identity.plan_fingerprint).prepare(job, progress.advance)
            except ShadowDiffers as difference:
                raise _Failed(str(difference)) from None

    def _close(self) -> list[TableCount]:
        """Count from the comparison. The map stays until the last copy serves: the replay looks texts up."""
        self._enter(CLOSE)
        counts = []
        for job in self.jobs:
            with self.engine.begin() as connection:
                quarantine.release_mended(connection, self.schema, job, key_type(connection, job))
                already = batches.already_linked(connection, self.run.id, RESOLVE, job.name)
                entry = shadows.of(connection, job.name)
                count = _counted(job, dict(entry.counts) if entry is not None else {}, already)
                runs.close_table(connection, self.run.id, count)
            counts.append(count)
        with self.engine.begin() as connection:
            runs.move(connection, self.run.id, RunStatus.SUCCEEDED)
        return counts


@dataclass(frozen=True)
class _Say:
    """Tells that a table is busy, between two tries."""

    driver: ShadowDriver
    job: Job

    def __call__(self, state: RetryCallState) -> None:
        self.driver.tell(f"{self.job.name} is busy; trying again. Nothing is held meanwhile.")


def _counted(job: Job, counts: dict[str, int], already: int) -> TableCount:
    linked, total = counts.get("linked", 0), counts.get("rows", 0)
    rejected = counts.get("rejected", 0)
    return TableCount(
        table_name=job.name,
        rows=total,
        linked=linked - min(already, linked),
        already_linked=min(already, linked),
        no_address=total - linked - rejected,
        quarantined=rejected,
        left_to_live=0,
    )
