"""Run batch: one batch, claimed and tried as often as its transient errors allow, and its result.

The same for every phase and wherever it runs: in the driver's own process (resolve, fill), in a
worker process, or on another machine.
"""

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from backfill.database.connection import problem_of, sqlstate_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.timeouts import Timeouts
from backfill.database.transient import (
    LIMITS,
    LOST,
    TIMEOUTS,
    RowsRaced,
    TableLocked,
    TransientError,
    transient_error_of,
)
from backfill.engine.phase_hooks import nothing
from backfill.errors import ConsentMissing, DuplicateKept, ResultChanged, TableRewritten, ValuesCopied
from backfill.ledger import claims
from backfill.ledger.address_map import MapIncomplete
from backfill.ledger.batches import Batch, PassCounts
from backfill.ledger.claims import LeaseLost, Stopped

BEAT_SECONDS = 3.0  # a waiting worker renews its lease this often; half of ``leases.GRACE_SECONDS``
FIRST_WAIT, LONGEST_WAIT = 0.1, 3.0

Work = Callable[[Batch, uuid.UUID], PassCounts]


@dataclass(frozen=True)
class RetryPolicy:
    """What the operator allows a batch: *patience* in seconds, *nice* in durations, its *limits*."""

    timeouts: Timeouts = field(default_factory=Timeouts)
    patience: float = 600.0
    nice: float = 0.0


@dataclass(frozen=True)
class BatchResult:
    """What became of a batch; exactly one field beside the number is set."""

    batch_id: int
    counts: PassCounts | None = None
    error: str | None = None  # recorded in the ledger
    halved: TransientError | None = None  # timed out too often: handed back as two batches
    stopped: bool = False  # the run was told to pause or to wait; the batch is at its checkpoint
    lost: bool = False  # somebody else has it
    rewritten: bool = False  # plan the table anew
    map_incomplete: bool = False  # resolve anew


class _Exhausted:
    """tenacity's stop: each kind of transient error has a limit of its own."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.counts: dict[TransientError, int] = {}
        self.since: dict[TransientError, float] = {}

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        transient_error = transient_error_of(error) if error else None
        if transient_error is None:
            return True
        self.counts[transient_error] = self.counts.get(transient_error, 0) + 1
        began = self.since.setdefault(transient_error, time.monotonic())
        attempts = LIMITS[transient_error].attempts
        if attempts is not None:
            return self.counts[transient_error] >= attempts
        return time.monotonic() - began >= self.patience


def run_batch(
    engine: Engine,
    batch_id: int,
    work: Work,
    retry_policy: RetryPolicy,
    *,
    sleep: Callable[[float], object] = time.sleep,
    before_batch: Callable[[Batch], None] = nothing,
) -> BatchResult:
    """Claim batch *batch_id* and *work* on it; never raises for what the database says.

    With a patience of 0, a lost connection is re-raised: the driver has more to recover than this batch.
    """
    lease = uuid.uuid4()
    held: list[Batch] = []

    def once() -> PassCounts | None:
        if not held:
            with engine.begin() as connection:
                claimed = claims.claim(connection, batch_id, lease)
            if claimed is None:
                return None
            held.append(claimed[0])
        before_batch(held[0])
        return work(held[0], lease)

    def again(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        transient_error = transient_error_of(error) if error else None
        if held and transient_error is not None:
            _beat(engine, held[0], lease, transient_error)

    def wait(seconds: float) -> None:
        sleep(seconds)

    retrying = Retrying(
        retry=retry_if_exception(lambda error: transient_error_of(error) is not None),
        stop=_Exhausted(retry_policy.patience),
        wait=wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT) + wait_random(0, 1),
        before_sleep=again,
        sleep=wait,
        reraise=True,
    )
    try:
        counts = retrying(once)
    except LeaseLost:
        return BatchResult(batch_id, lost=True)
    except (Stopped, TableRewritten, MapIncomplete) as reason:
        with engine.begin() as connection:
            claims.release(connection, batch_id, lease)
        return BatchResult(
            batch_id,
            stopped=isinstance(reason, Stopped),
            rewritten=isinstance(reason, TableRewritten),
            map_incomplete=isinstance(reason, MapIncomplete),
        )
    except (ConsentMissing, DuplicateKept, ResultChanged, ValuesCopied) as error:
        with engine.begin() as connection:
            claims.fail(connection, batch_id, lease, str(error))
        return BatchResult(batch_id, error=str(error))
    except (*DRIVER_ERRORS, TableLocked, RowsRaced) as error:
        return _give_up(engine, batch_id, held[0] if held else None, lease, error, retry_policy)
    return BatchResult(batch_id, lost=True) if counts is None else BatchResult(batch_id, counts)


def _give_up(
    engine: Engine,
    batch_id: int,
    batch: Batch | None,
    lease: uuid.UUID,
    error: Exception,
    retry_policy: RetryPolicy,
) -> BatchResult:
    """Halve what timed out, record what failed for good."""
    transient_error = transient_error_of(error)
    if transient_error in LOST and retry_policy.patience == 0:
        raise error
    state = transient_error or sqlstate_of(error) or "error"
    text = f"{state}: {problem_of(error)}"
    # With the server gone the lease runs out by itself.
    with contextlib.suppress(*DRIVER_ERRORS), engine.begin() as connection:
        if batch is not None and transient_error in TIMEOUTS and claims.halve(connection, batch, lease):
            return BatchResult(batch_id, halved=transient_error)
        claims.fail(connection, batch_id, lease, text)
    return BatchResult(batch_id, error=text)


def _beat(
    engine: Engine, batch: Batch, lease: uuid.UUID, transient_error: TransientError | None = None
) -> None:
    """Renew the lease, where the server can be reached; raises ``LeaseLost``."""
    with contextlib.suppress(*DRIVER_ERRORS), engine.begin() as connection:
        claims.renew(connection, batch, lease, transient_error)


def rester(
    engine: Engine, batch: Batch, lease: uuid.UUID, nice: float, sleep: Callable[[float], object]
) -> Callable[[float], None]:
    """``rest(seconds)``: sleep *nice* times as long as was worked, with the lease kept alive."""

    def rest(worked: float) -> None:
        end = time.monotonic() + nice * worked
        while (left := end - time.monotonic()) > 0:
            if sleep(min(left, BEAT_SECONDS)):
                return
            if left > BEAT_SECONDS:
                _beat(engine, batch, lease)

    return rest
