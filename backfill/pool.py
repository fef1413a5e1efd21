"""Pool: batches through an executor, and what to do with each outcome."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver

from backfill import worker
from backfill.worker import Outcome, Setup

POLL_SECONDS = 0.2  # how soon a signal is noticed


@dataclass(frozen=True)
class Task:
    """What a worker needs to be told about a batch."""

    batch_id: int
    table_name: str
    filenode: int


def warm_up(workers: int) -> None:
    """Start the fork server, so that it imports us while the driver still resolves."""
    if workers > 1:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["backfill.worker"])
        forkserver.ensure_running()


@contextmanager
def local(setup: Setup, workers: int) -> Iterator[Executor]:
    """An executor on this machine: one thread of ours, or *workers* processes."""
    executor: Executor
    if workers == 1:
        executor = ThreadPoolExecutor(1, initializer=worker.start, initargs=(setup,))
    else:
        # A fork server that has imported us once: a worker costs 10 ms and shares its memory.
        warm_up(workers)
        context = multiprocessing.get_context("forkserver")
        executor = ProcessPoolExecutor(workers, context, initializer=worker.start, initargs=(setup,))
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)
        if workers == 1:
            worker.stop()  # submitted, it would be cancelled with the rest, and leave its sessions open


def outcomes(
    executor: Executor, tasks: Sequence[Task], workers: int, stopping: Callable[[], bool]
) -> Iterator[Outcome]:
    """Run *tasks*, a few ahead of the workers, and yield what became of each.

    Submits nothing more once *stopping*. Raises ``BrokenProcessPool`` when a worker process died.
    """
    waiting = list(reversed(tasks))
    running: set[Future[Outcome]] = set()
    while running or (waiting and not stopping()):
        while waiting and len(running) < workers + 1 and not stopping():
            task = waiting.pop()
            running.add(executor.submit(worker.link_batch, task.batch_id, task.table_name, task.filenode))
        done, running = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


__all__ = ["BrokenProcessPool", "Task", "local", "outcomes", "warm_up"]
