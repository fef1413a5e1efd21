"""Worker: one batch at a time in a process of its own, through any ``concurrent.futures.Executor``.

A worker is told numbers and nothing else. Where the database is, it was told when its process
began (a pool on this machine, through a private pipe) or takes from its own environment (another
machine: no URL, salt or address ever passes a scheduler).
"""

import hashlib
import json
import os
import signal
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing import connection as pipes
from multiprocessing import parent_process
from typing import Any

from sqlalchemy import Engine, make_url

from backfill.database import watchdog
from backfill.database.cancellation import Statements
from backfill.database.connection import make_engine
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.preflight.finding import RAW_COPIED
from backfill.engine import batch_result
from backfill.engine.phase_hooks import nothing
from backfill.engine.run_batch import BatchResult, RetryPolicy, rester, run_batch
from backfill.engine.target import target_url
from backfill.job_id import JobId
from backfill.jobs import apply
from backfill.ledger.batches import Batch, PassCounts
from backfill.ledger.claims import Stopped
from backfill.plan import Plan, load_plan
from backfill.settings import Settings


@dataclass(frozen=True)
class WorkerConfig:
    """Where a worker works: URL with password, ledger schema, plan; and its terms."""

    url: str
    ledger_schema: str
    plan: Plan
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    silence: float = 60.0
    before_batch: Callable[[Batch], None] = nothing


@dataclass(frozen=True)
class BatchRef:
    """What a worker is told about a batch; passes a scheduler, so nothing in it is secret."""

    batch_id: int
    job: JobId
    filenode: int
    moment: datetime | None = None  # of the run: how old a row is
    beside: tuple[JobId, ...] = ()  # jobs of the same table whose turn comes later: ``shared_pass``


@dataclass(frozen=True)
class _Bench:
    """What a worker process has before it."""

    config: WorkerConfig
    engine: Engine
    statements: Statements

    @classmethod
    def make(cls, config: WorkerConfig) -> "_Bench":
        """Connects to nothing yet."""
        watchdog.configure(config.silence)
        engine = make_engine(make_url(config.url), ledger_schema=config.ledger_schema)
        statements = Statements(engine)
        statements.watch()
        return cls(config, engine, statements)


_bench: _Bench | None = None  # a pool's initializer has no other way to leave something
_told = threading.Event()  # to end at once: where the worker is a thread of the driver's
_setting_up = threading.Lock()  # Dask runs tasks in threads

# Ctrl-C, or the end of a terminal, reaches the whole process group; the driver alone decides how to stop.
LEFT_TO_DRIVER = (signal.SIGINT, signal.SIGHUP)


def start(config: WorkerConfig) -> None:
    """Begin a worker process of a pool on this machine."""
    global _bench
    _told.clear()
    parent = parent_process()
    if parent is not None:
        for number in LEFT_TO_DRIVER:
            signal.signal(number, signal.SIG_IGN)  # one that came before waited: ``pool.warm_up``
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_DRIVER)
    _bench = _Bench.make(config)
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def end_at_once() -> None:
    """For a worker that is a thread of the driver's, and cannot be killed: cancel what it does."""
    _told.set()
    if _bench is not None:
        _bench.statements.cancel()


def stop() -> None:
    """Close what ``start`` opened in this process, where it was called."""
    global _bench
    _told.clear()
    if _bench is not None:
        _bench.engine.dispose()
        _bench = None


def _die_with(sentinel: int) -> None:
    """End this process when the driver is gone: killed, it cannot tell us, and we would wait for ever."""
    pipes.wait([sentinel])
    os._exit(1)


def digest_of(plan: Plan) -> str:
    """Tells whether two plans have the same batches: what ``accept`` lets a trigger copy decides there, and the rest in the driver."""
    copies = sorted(name for name in plan.accept if name.startswith(f"{RAW_COPIED}:"))
    return hashlib.sha256(json.dumps([plan.fingerprint(""), copies]).encode()).hexdigest()


def _bench_of_our_own(schema: str, digest: str, retry_policy: RetryPolicy) -> _Bench:
    """From this machine's environment. Raises ``WorkerUnfit`` where it names another plan than the run's, or
    holds the salt: whoever can talk to the cluster could read it, and a worker has no use for it."""
    global _bench
    with _setting_up:
        if _bench is None:
            settings = Settings.load()
            if settings.ip_salt is not None or settings.ip_salt_file is not None:
                raise WorkerUnfit(
                    "a worker's environment names the salt; start it without BACKFILL_IP_SALT and "
                    "BACKFILL_IP_SALT_FILE"
                )
            plan = load_plan(settings.plan)
            url = target_url(settings)
            _bench = _Bench.make(
                WorkerConfig(
                    url.render_as_string(hide_password=False), schema, plan, retry_policy, settings.silence
                )
            )
        if digest_of(_bench.config.plan) != digest:
            raise WorkerUnfit(
                f'BACKFILL_PLAN of this worker is not the plan of the run, or its "accept" names other copies ({RAW_COPIED}:…)'
            )
        return _bench


class WorkerUnfit(Exception):
    """The worker's environment does not fit the run."""


def link_batch(batch_ref: BatchRef) -> BatchResult:
    """Claim and link one batch, in a process that ``start`` set up."""
    if _bench is None:
        raise RuntimeError("start() comes first")
    return _link(_bench, batch_ref, _bench.config.retry_policy)


def link_from_environment(
    batch_ref: BatchRef, schema: str, digest: str, retry_policy: RetryPolicy
) -> dict[str, Any]:
    """Claim and link one batch, in a process that somebody else set up; returns plain data."""
    try:
        bench = _bench_of_our_own(schema, digest, retry_policy)
    except WorkerUnfit as error:
        return {batch_result.REFUSED: str(error)}
    return batch_result.as_plain(_link(bench, batch_ref, retry_policy))


def _link(bench: _Bench, batch_ref: BatchRef, retry_policy: RetryPolicy) -> BatchResult:
    config, engine = bench.config, bench.engine
    plan = config.plan if batch_ref.moment is None else config.plan.at(batch_ref.moment)
    job = plan.job(batch_ref.job)

    def work(batch: Batch, lease: uuid.UUID) -> PassCounts:
        rest = rester(engine, batch, lease, retry_policy.nice, _told.wait)
        try:
            return apply.process(
                engine,
                config.ledger_schema,
                job,
                batch,
                lease,
                batch_ref.filenode,
                retry_policy.timeouts,
                rest,
                plan,
                batch_ref.beside,
            )
        except DRIVER_ERRORS:
            if _told.is_set():  # cancelled by ourselves: no timeout, and nothing to try again
                raise Stopped from None
            raise

    return run_batch(
        engine, batch_ref.batch_id, work, retry_policy, sleep=_told.wait, before_batch=config.before_batch
    )
