"""Recovery: retries transient failures, counts them, and fails the run when they persist without progress.

Between two setbacks with a batch done between them nothing is counted: a run of many hours may meet
any number of them.
"""

import random

from backfill.database.connection import problem_of, sqlstate_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.transient import LIMITS, LOST, TransientError
from backfill.engine.run_context import Failed, NoServer, RunContext
from backfill.engine.scheduler import BatchScheduler
from backfill.errors import RunTakenOver
from backfill.ledger import claims, runs
from backfill.ledger.claims import Stopped
from backfill.ledger.run_lock import RunLock, in_progress, wait_for

RESTARTS = 10  # in a row, without a batch done between: then something is wrong that does not pass
MOST_OF_A_KIND = 60  # of a kind that has no limit of its own, likewise
SHORTEST_WAIT, LONGEST_WAIT = 0.2, 2.0


class Recovery:
    """One run's, for its driver."""

    def __init__(self, context: RunContext, lock: RunLock, scheduler: BatchScheduler) -> None:
        self._context, self._lock, self._scheduler = context, lock, scheduler
        self._seen = 0  # batches done when the last setback was counted
        self._restarts = 0
        self._met: dict[TransientError, int] = {}

    def fix(self, transient_error: TransientError | None, error: Exception | None) -> None:
        """Get over *error*; raises ``Failed`` when it is none that passes, and ``Stopped``, ``RunTakenOver``."""
        context = self._context
        if context.control.stopping:
            raise Stopped(context.control.reason)
        problem = problem_of(error) if error else "the session of the run's lock was lost"
        if transient_error is None:
            raise Failed(f"{sqlstate_of(error) if error else ''}: {problem}")
        self._count(transient_error, problem)
        if transient_error in LOST or self._lock.lost.is_set():
            context.tell(f"The connection was lost: {problem}.")
            self._reconnect()
        else:
            context.tell(f"{transient_error}: {problem}. Trying again.")
            context.control.sleep(random.uniform(SHORTEST_WAIT, LONGEST_WAIT))  # noqa: S311 -- jitter
        self.back_to_checkpoints(transient_error)

    def back_to_checkpoints(self, transient_error: str) -> None:
        """Count the error, and let whatever was claimed be picked again."""
        with self._context.engine.begin() as connection:
            runs.count_retry(connection, self._context.run.id, transient_error)
            claims.reclaim(connection, self._context.run.id, failed=False)

    def restarted(self, problem: str) -> None:
        """Count a new beginning; raises ``Failed`` when one follows the other without any progress."""
        self._forget_what_passed()
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise Failed(problem)

    def _count(self, transient_error: TransientError, problem: str) -> None:
        self._forget_what_passed()
        self._met[transient_error] = self._met.get(transient_error, 0) + 1
        if transient_error is TransientError.STATEMENT_TIMEOUT:  # reading a range ahead of its batch
            self._scheduler.shrink()
        limit = LIMITS[transient_error].attempts or MOST_OF_A_KIND
        if self._met[transient_error] > limit:
            raise Failed(f"{transient_error}, {limit} times: {problem}")

    def _forget_what_passed(self) -> None:
        if self._scheduler.done != self._seen:
            self._seen, self._restarts = self._scheduler.done, 0
            self._met.clear()

    def _reconnect(self) -> None:
        """Have the lock again, and the run still; raises ``Failed``, ``RunTakenOver``, ``RunInProgress``."""
        context, patience = self._context, self._context.settings.patience
        context.engine.dispose()
        try:
            if not wait_for(self._lock, context.control.sleep, patience, context.tell):
                raise in_progress(context.engine, context.schema)
        except DRIVER_ERRORS as error:
            raise NoServer(f"no server within {patience:g} s: {problem_of(error)}") from error
        with context.engine.begin() as connection:
            now = runs.get(connection, context.run.id)
        if (now.holder, now.attempts) != (context.run.holder, context.run.attempts):
            raise RunTakenOver(run=context.run.id, holder=now.holder)
        self._lock.beat_for(context.run.id)
        context.tell("Connected again; going on from the last checkpoint.")
