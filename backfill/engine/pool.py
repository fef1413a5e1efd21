"""Pool: batches through an executor, and what to do when it breaks."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from typing import Protocol

from backfill.engine import in_flight, worker
from backfill.engine.run_batch import BatchResult
from backfill.engine.worker import BatchRef, WorkerConfig
from backfill.errors import NoWorkerProcesses

POLL_SECONDS = 0.1  # how soon a signal is noticed
GRACE_SECONDS = 0.6  # for workers to come to their checkpoint; killing them later is safe, only ruder


class PoolBroken(Exception):
    """A worker died, or the scheduler did; whatever was in hand is at its checkpoint."""


class Pool(Protocol):
    """Workers, wherever they are: an executor and how many tasks to keep it busy with."""

    def slots(self) -> int:
        """Tasks to keep in flight."""
        ...

    def submit(self, batch_ref: BatchRef) -> Future[BatchResult]:
        """Raises ``PoolBroken``."""
        ...

    def kill(self) -> None:
        """End the workers at once; what they had in hand is rolled back."""
        ...


def warm_up(workers: int) -> None:
    """Start the fork server, so that it imports us while the driver still resolves."""
    if workers > 1:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["backfill.engine.worker"])
        # What a terminal sends to all of us has to wait until a worker ignores it: the server and its workers have
        # the mask that we have now. Else a Ctrl-C while a worker starts is a traceback.
        resource_tracker.ensure_running()  # a process of its own, whose start takes SIGINT out of the mask
        before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.LEFT_TO_DRIVER)
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class LocalPool:
    """*workers* processes on this machine; a single one is a thread of ours, which costs no start."""

    def __init__(self, config: WorkerConfig, workers: int) -> None:
        self.workers = workers
        self.executor: ThreadPoolExecutor | ProcessPoolExecutor
        if workers == 1:
            self.executor = ThreadPoolExecutor(1, initializer=worker.start, initargs=(config,))
            return
        # A fork server that has imported us once: a worker costs 10 ms and shares its memory.
        warm_up(workers)
        context = multiprocessing.get_context("forkserver")
        try:
            self.executor = ProcessPoolExecutor(
                workers, context, initializer=worker.start, initargs=(config,)
            )
        except (
            OSError,
            ImportError,
        ) as error:  # no semaphores: /dev/shm is missing, full, or closed to this user
            raise NoWorkerProcesses(problem=getattr(error, "strerror", None) or "no semaphores") from error

    def slots(self) -> int:
        """One more than there are workers, so that none waits for us."""
        return self.workers + 1

    def submit(self, batch_ref: BatchRef) -> Future[BatchResult]:
        """To whichever worker is free first."""
        try:
            return self.executor.submit(worker.link_batch, batch_ref)
        except (BrokenProcessPool, RuntimeError) as error:
            raise PoolBroken(str(error)) from error

    def kill(self) -> None:
        """SIGKILL: the server rolls back, the ledger has the checkpoint. A thread's statement is cancelled."""
        if isinstance(self.executor, ThreadPoolExecutor):
            worker.end_at_once()
            return
        for process in list((self.executor._processes or {}).values()):
            process.kill()

    def close(self) -> None:
        """Wait for what is in hand, and leave nothing open."""
        self.executor.shutdown(cancel_futures=True)
        if isinstance(self.executor, ThreadPoolExecutor):
            worker.stop()  # submitted, it would be cancelled with the rest, and leave its sessions open


@contextmanager
def local(config: WorkerConfig, workers: int, _sleep: Callable[[float], None]) -> Iterator[Pool]:
    """A pool on this machine; its processes are gone at the end."""
    pool = LocalPool(config, workers)
    try:
        yield pool
    except BaseException:
        pool.kill()
        raise
    finally:
        pool.close()


def outcomes(
    pool: Pool,
    following: Callable[[frozenset[int]], BatchRef | None],
    stopping: Callable[[], bool],
) -> Iterator[BatchResult]:
    """Run what *following* hands out, a few ahead of the workers, and yield what became of each.

    *following* is told which batches are in flight, and returns None when there is nothing for now;
    it ends the loop by being *stopping*, or by raising. Raises ``PoolBroken`` when a worker died.
    """

    def next_ticket(running: Sequence[BatchRef]) -> BatchRef | None:
        return None if stopping() else following(frozenset(batch_ref.batch_id for batch_ref in running))

    def goes_on(running: dict[Future[BatchResult], BatchRef]) -> bool:
        if stopping():
            _drain(pool, running)
            return bool(running)
        return True

    for batch_ref, future in in_flight.completed(
        pool.submit,
        next_ticket,
        goes_on=goes_on,
        slots=pool.slots,
        idle=lambda: time.sleep(POLL_SECONDS),
        poll_seconds=POLL_SECONDS,
    ):
        yield _outcome(future, batch_ref.batch_id)


def _drain(pool: Pool, running: dict[Future[BatchResult], BatchRef]) -> None:
    """Let workers come to their checkpoints; kill those that take longer than we may."""
    for future in list(running):
        if future.cancel():
            del running[future]
    _, late = wait(running, timeout=GRACE_SECONDS)
    if late:
        pool.kill()
        for future in late:
            del running[future]


def _outcome(future: Future[BatchResult], batch_id: int) -> BatchResult:
    try:
        return future.result()
    except (BrokenProcessPool, PoolBroken) as error:
        raise PoolBroken(f"batch {batch_id}") from error
