"""Worker: one batch at a time in a process of its own, through any ``concurrent.futures.Executor``.

A worker is told numbers and nothing else. Where the database is, it was told when its process
began (a pool on this machine, through a private pipe) or takes from its own environment.
"""

import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import connection as pipes
from multiprocessing import parent_process

import psycopg2
from psycopg2 import errorcodes
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from backfill.database.engine import make_engine, problem_of, sqlstate_of
from backfill.jobs import link
from backfill.jobs.link import TableRewritten
from backfill.ledger import batches
from backfill.ledger.address_map import MapIncomplete
from backfill.ledger.batches import Account, LeaseLost, Stopped
from backfill.plan import Plan

ATTEMPTS = 5  # then the batch is recorded as failed, and the run goes on
TRANSIENT = {
    errorcodes.SERIALIZATION_FAILURE,
    errorcodes.DEADLOCK_DETECTED,
    errorcodes.LOCK_NOT_AVAILABLE,
}


@dataclass(frozen=True)
class Setup:
    """Where a worker works: URL with password, ledger schema, plan."""

    url: str
    ledger_schema: str
    plan: Plan


@dataclass(frozen=True)
class Outcome:
    """What became of a batch; exactly one field beside the number is set."""

    batch_id: int
    account: Account | None = None
    error: str | None = None  # recorded in the ledger
    stopped: bool = False  # the run was told to pause; the batch is at its checkpoint
    lost: bool = False  # somebody else has it
    rewritten: bool = False  # plan the table anew
    map_incomplete: bool = False  # resolve anew


_engine: Engine
_setup: Setup


def start(setup: Setup) -> None:
    """Begin a worker process (or the one thread of a run with a single worker)."""
    global _engine, _setup  # a pool's initializer has no other way to leave something
    _setup = setup
    _engine = make_engine(make_url(setup.url), ledger_schema=setup.ledger_schema)
    parent = parent_process()
    if parent is not None:
        # Ctrl-C reaches the whole process group; the driver alone decides how to stop.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def stop() -> None:
    """Close the connections of ``start``, where it was called."""
    if "_engine" in globals():
        _engine.dispose()


def _die_with(sentinel: int) -> None:
    """End this process when the driver is gone: killed, it cannot tell us, and we would wait for ever."""
    pipes.wait([sentinel])
    os._exit(1)


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may well succeed a moment later."""
    return isinstance(error, (DBAPIError, psycopg2.Error)) and sqlstate_of(error) in TRANSIENT


def link_batch(batch_id: int, table_name: str, filenode: int) -> Outcome:
    """Claim and link one batch, retrying what is transient; never raises for what the database says."""
    job = _setup.plan.job(table_name)
    with _engine.begin() as connection:
        claimed = batches.claim(connection, batch_id)
    if claimed is None:
        return Outcome(batch_id, lost=True)
    batch, lease = claimed
    try:
        for attempt in Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.1, max=5),
            reraise=True,
        ):
            with attempt:
                account = link.process(_engine, _setup.ledger_schema, job, batch, lease, filenode)
        return Outcome(batch_id, account)
    except LeaseLost:
        return Outcome(batch_id, lost=True)
    except (Stopped, TableRewritten, MapIncomplete) as reason:
        with _engine.begin() as connection:
            batches.release(connection, batch_id, lease)
        return Outcome(
            batch_id,
            stopped=isinstance(reason, Stopped),
            rewritten=isinstance(reason, TableRewritten),
            map_incomplete=isinstance(reason, MapIncomplete),
        )
    except (DBAPIError, psycopg2.Error) as error:
        text = f"{sqlstate_of(error) or 'connection lost'}: {problem_of(error)}"
        try:
            with _engine.begin() as connection:
                batches.fail(connection, batch_id, lease, text)
        except (DBAPIError, psycopg2.Error):
            pass  # the server is gone; the lease runs out by itself
        return Outcome(batch_id, error=text)
