"""A pool on as many machines as there are: Dask's executor, its scheduler and workers.

Dask distributes, the ledger makes it exactly-once. What passes the scheduler is a batch reference (a batch's
number, table, file number), the ledger's schema and a digest of the plan; what comes back is plain
data. Where the database is, each worker takes from its own environment. Scheduler, workers and driver
know each other by certificates (``dask_security``).
"""

import logging
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from typing import Any

from backfill.engine import batch_result, dask_security, worker
from backfill.engine.pool import Pool, PoolBroken
from backfill.engine.run_batch import BatchResult
from backfill.engine.worker import BatchRef, WorkerConfig
from backfill.errors import ExecutorUnusable

CONNECT_SECONDS = 3
QUIET = ("distributed.client", "distributed.comm", "distributed.core", "distributed.batched")


class DaskPool:
    """The workers of one scheduler."""

    def __init__(self, client: Any, config: WorkerConfig) -> None:
        self._client = client
        self._executor = client.get_executor(retries=0, pure=False)
        self._what = (config.ledger_schema, worker.digest_of(config.plan), config.retry_policy)
        self._slots, self._asked = 2, 0.0

    def slots(self) -> int:
        """Two tasks a thread, so that none waits for us. Raises ``PoolBroken`` when the scheduler is gone."""
        if self._client.status != "running":
            raise PoolBroken("the Dask scheduler is gone")
        if time.monotonic() - self._asked > 1:
            self._asked = time.monotonic()
            try:
                threads = self._client.nthreads()
                self._slots = 2 * max(1, sum(threads.values()))
            except (OSError, TimeoutError) as error:
                raise PoolBroken("the Dask scheduler is gone") from error
            dask_security.require_encrypted(self._client.scheduler.address, threads)
        return self._slots

    def submit(self, batch_ref: BatchRef) -> Future[BatchResult]:
        """To whichever worker Dask chooses."""
        try:
            inner = self._executor.submit(worker.link_from_environment, batch_ref, *self._what)
        except (OSError, RuntimeError) as error:
            raise PoolBroken(str(error)) from error
        outer: Future[BatchResult] = Future()
        inner.add_done_callback(lambda done: _hand_on(done, outer, batch_ref.batch_id))
        return outer

    def kill(self) -> None:
        """Forget what was asked of the workers; they are not ours to kill, and stop by the ledger."""
        with suppress(Exception):
            self._executor.shutdown(wait=False, cancel_futures=True)


def _hand_on(done: "Future[Any]", outer: "Future[BatchResult]", batch_id: int) -> None:
    """The result, when it is one; an error means that a worker or the scheduler died."""
    if not outer.set_running_or_notify_cancel():
        return
    try:
        found = done.result()
        refused = found.get(batch_result.REFUSED) if type(found) is dict else None
        if type(refused) is str:
            outer.set_exception(ExecutorUnusable(executor="Dask", problem=f"{refused[:200]}."))
        else:
            outer.set_result(batch_result.from_plain(found, batch_id))
    except batch_result.NotAResult as error:
        outer.set_exception(
            ExecutorUnusable(executor="Dask", problem=f"a worker answered for batch {batch_id}, and {error}.")
        )
    except (Exception, CancelledError) as error:
        outer.set_exception(PoolBroken(type(error).__name__))


def factory(
    address: str, tell: Callable[[str], None]
) -> Callable[[WorkerConfig, int, Callable[[float], None]], Any]:
    """What makes pools of the scheduler at *address*. Raises ``ExecutorUnusable``."""
    try:
        from distributed import Client
    except ImportError:
        raise ExecutorUnusable(
            executor="--dask", problem="is not installed. Install it with `pip install 'backfill[dask]'`."
        ) from None
    security = dask_security.security(address)
    for name in QUIET:  # it reports what we report, at length
        logging.getLogger(name).setLevel(logging.CRITICAL)

    @contextmanager
    def dask(config: WorkerConfig, _workers: int, sleep: Callable[[float], None]) -> Iterator[Pool]:
        client = _connect(Client, address, security, config.retry_policy.patience, sleep, tell)
        try:
            yield DaskPool(client, config)
        finally:
            with suppress(Exception):
                client.close(timeout=1)

    return dask


def _connect(
    client: Callable[..., Any],
    address: str,
    security: Any,
    patience: float,
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
) -> Any:
    end, told = time.monotonic() + patience, False
    while True:
        try:
            return client(address, timeout=CONNECT_SECONDS, set_as_default=False, security=security)
        except (OSError, TimeoutError, ValueError) as error:
            if _about_certificates(error):
                raise ExecutorUnusable(
                    executor=f"Dask scheduler {address}",
                    problem="does not accept our certificate, or has none of the CA that we trust. Check the three "
                    "files of each side.",
                ) from error
            if isinstance(error, ValueError) or time.monotonic() > end:
                raise ExecutorUnusable(
                    executor=f"Dask scheduler {address}",
                    problem="cannot be reached. Start one (docs/operations.md has the lines), or leave --dask out.",
                ) from error
        if not told:
            tell(f"The Dask scheduler {address} is not there; waiting for it.")
            told = True
        sleep(0.5)


def _about_certificates(error: BaseException | None) -> bool:
    """Whether a TLS handshake failed, which no waiting changes."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLError) or "SSL" in str(error):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
