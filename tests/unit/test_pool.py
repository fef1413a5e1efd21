"""Pool: workers as processes, without a database."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection

import pytest

from backfill.engine import pool, worker
from backfill.engine.worker import WorkerConfig
from backfill.plan import PYPI


def _starts(config: WorkerConfig, number: int, says: Connection) -> None:
    """As an executor starts a worker, with a signal before it is one, and after."""
    os.kill(os.getpid(), number)
    worker.start(config)
    os.kill(os.getpid(), number)
    says.send("at work")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_a_terminal_sends_while_a_worker_starts_is_the_drivers_alone(number: signal.Signals) -> None:
    """Else a Ctrl-C leaves a traceback of the worker beside what the driver says."""
    pool.warm_up(2)
    hears, says = multiprocessing.Pipe(duplex=False)
    config = WorkerConfig("postgresql+psycopg2://nobody@localhost/nothing", "backfill", PYPI)
    process = multiprocessing.get_context("forkserver").Process(target=_starts, args=(config, number, says))
    process.start()
    says.close()
    try:
        assert hears.poll(30)
        assert hears.recv() == "at work"
    finally:
        process.join(30)
    assert process.exitcode == 0


def test_the_driver_itself_hears_signals() -> None:
    pool.warm_up(2)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(worker.LEFT_TO_DRIVER)
