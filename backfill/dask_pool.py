"""A pool on as many machines as there are: Dask's executor, its scheduler and workers.

Dask distributes, the ledger makes it exactly-once. What passes the scheduler is a ticket (a batch's
number, table, file number), the ledger's schema and a fingerprint of the plan. Where the database
is, each worker takes from its own environment.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from typing import Any

from backfill import worker
from backfill.attempt import Outcome
from backfill.errors import ExecutorUnusable
from backfill.pool import Pool, PoolBroken
from backfill.worker import Setup, Ticket

CONNECT_SECONDS = 3
QUIET = ("distributed.client", "distributed.comm", "distributed.core", "distributed.batched")


class DaskPool:
    """The workers of one scheduler."""

    def __init__(self, client: Any, setup: Setup) -> None:
        self._client = client
        self._executor = client.get_executor(retries=0, pure=False)
        self._what = (setup.ledger_schema, setup.plan.fingerprint(""), setup.terms)
        self._slots, self._asked = 2, 0.0

    def slots(self) -> int:
        """Two tasks a thread, so that none waits for us. Raises ``PoolBroken`` when the scheduler is gone."""
        if self._client.status != "running":
            raise PoolBroken("the Dask scheduler is gone")
        if time.monotonic() - self._asked > 1:
            self._asked = time.monotonic()
            try:
                self._slots = 2 * max(1, sum(self._client.nthreads().values()))
            except (OSError, TimeoutError) as error:
                raise PoolBroken("the Dask scheduler is gone") from error
        return self._slots

    def submit(self, ticket: Ticket) -> Future[Outcome]:
        """To whichever worker Dask chooses."""
        try:
            inner = self._executor.submit(worker.link_from_environment, ticket, *self._what)
        except (OSError, RuntimeError) as error:
            raise PoolBroken(str(error)) from error
        outer: Future[Outcome] = Future()
        inner.add_done_callback(lambda done: _hand_on(done, outer))
        return outer

    def kill(self) -> None:
        """Forget what was asked of the workers; they are not ours to kill, and stop by the ledger."""
        with suppress(Exception):
            self._executor.shutdown(wait=False, cancel_futures=True)


def _hand_on(done: "Future[Any]", outer: "Future[Outcome]") -> None:
    """The result; whatever is not a result of ours means that the workers or the scheduler died."""
    if not outer.set_running_or_notify_cancel():
        return
    try:
        outer.set_result(done.result())
    except worker.WrongPlan as error:
        outer.set_exception(ExecutorUnusable(executor="Dask", problem=f"{error}."))
    except (Exception, CancelledError) as error:
        outer.set_exception(PoolBroken(type(error).__name__))


def factory(
    address: str, tell: Callable[[str], None]
) -> Callable[[Setup, int, Callable[[float], None]], Any]:
    """What makes pools of the scheduler at *address*. Raises ``ExecutorUnusable``."""
    try:
        from distributed import Client
    except ImportError:
        raise ExecutorUnusable(
            executor="--dask", problem="is not installed. Install it with `pip install 'backfill[dask]'`."
        ) from None
    for name in QUIET:  # it reports what we report, at length
        logging.getLogger(name).setLevel(logging.CRITICAL)

    @contextmanager
    def dask(setup: Setup, _workers: int, sleep: Callable[[float], None]) -> Iterator[Pool]:
        client = _connect(Client, address, setup.terms.patience, sleep, tell)
        try:
            yield DaskPool(client, setup)
        finally:
            with suppress(Exception):
                client.close(timeout=1)

    return dask


def _connect(
    client: Callable[..., Any],
    address: str,
    patience: float,
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
) -> Any:
    end, told = time.monotonic() + patience, False
    while True:
        try:
            return client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            if isinstance(error, ValueError) or time.monotonic() > end:
                raise ExecutorUnusable(
                    executor=f"Dask scheduler {address}",
                    problem="cannot be reached. Start one with `dask scheduler`, or leave --dask out.",
                ) from error
        if not told:
            tell(f"The Dask scheduler {address} is not there; waiting for it.")
            told = True
        sleep(0.5)
