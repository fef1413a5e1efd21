"""Mender: gets a run over what passes, counts how often, and knows when it does not pass.

Between two setbacks with a batch done between them nothing is counted: a run of many hours may meet
any number of them.
"""

import random

import psycopg2
from sqlalchemy.exc import DBAPIError

from backfill.database.connection import problem_of, sqlstate_of
from backfill.database.transient import LIMITS, LOST, Trouble
from backfill.engine.control import Stop
from backfill.engine.run_context import Errand, Failed, NoServer
from backfill.engine.scheduler import Ranges
from backfill.errors import RunTakenOver
from backfill.ledger import claims, runs
from backfill.ledger.run_lock import RunLock, in_progress, wait_for

RESTARTS = 10  # in a row, without a batch done between: then something is wrong that does not pass
TROUBLES = 60  # of a kind that has no limit of its own, likewise
SHORTEST_WAIT, LONGEST_WAIT = 0.2, 2.0


class Mender:
    """One run's, for its driver."""

    def __init__(self, errand: Errand, lock: RunLock, ranges: Ranges) -> None:
        self._errand, self._lock, self._ranges = errand, lock, ranges
        self._seen = 0  # batches done when the last setback was counted
        self._restarts = 0
        self._troubles: dict[Trouble, int] = {}

    def mend(self, trouble: Trouble | None, error: Exception | None) -> None:
        """Get over *error*; raises ``Failed`` when it is none that passes, and ``Stop``, ``RunTakenOver``."""
        errand = self._errand
        if errand.control.stopping:
            raise Stop(errand.control.reason)
        problem = problem_of(error) if error else "the session of the run's lock was lost"
        if trouble is None:
            raise Failed(f"{sqlstate_of(error) if error else ''}: {problem}")
        self._count(trouble, problem)
        if trouble in LOST or self._lock.lost.is_set():
            errand.tell(f"The connection was lost: {problem}.")
            self._reconnect()
        else:
            errand.tell(f"{trouble}: {problem}. Trying again.")
            errand.control.sleep(random.uniform(SHORTEST_WAIT, LONGEST_WAIT))  # noqa: S311 -- jitter
        self.back_to_checkpoints(trouble)

    def back_to_checkpoints(self, trouble: str) -> None:
        """Note the trouble, and let whatever was in hand be picked again."""
        with self._errand.engine.begin() as connection:
            runs.count_retry(connection, self._errand.run.id, trouble)
            claims.reclaim(connection, self._errand.run.id, failed=False)

    def restarted(self, problem: str) -> None:
        """Count a new beginning; raises ``Failed`` when one follows the other without any progress."""
        self._forget_what_passed()
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise Failed(problem)

    def _count(self, trouble: Trouble, problem: str) -> None:
        self._forget_what_passed()
        self._troubles[trouble] = self._troubles.get(trouble, 0) + 1
        if trouble is Trouble.STATEMENT_TIMEOUT:  # reading a range ahead of its batch
            self._ranges.shrink()
        limit = LIMITS[trouble].attempts or TROUBLES
        if self._troubles[trouble] > limit:
            raise Failed(f"{trouble}, {limit} times: {problem}")

    def _forget_what_passed(self) -> None:
        if self._ranges.done != self._seen:
            self._seen, self._restarts = self._ranges.done, 0
            self._troubles.clear()

    def _reconnect(self) -> None:
        """Have the lock again, and the run still; raises ``Failed``, ``RunTakenOver``, ``RunInProgress``."""
        errand, patience = self._errand, self._errand.settings.patience
        errand.engine.dispose()
        try:
            if not wait_for(self._lock, errand.control.sleep, patience, errand.tell):
                raise in_progress(errand.engine, errand.schema)
        except (DBAPIError, psycopg2.Error) as error:
            raise NoServer(f"no server within {patience:g} s: {problem_of(error)}") from error
        with errand.engine.begin() as connection:
            now = runs.get(connection, errand.run.id)
        if (now.holder, now.attempts) != (errand.run.holder, errand.run.attempts):
            raise RunTakenOver(run=errand.run.id, holder=now.holder)
        self._lock.beat_for(errand.run.id)
        errand.tell("Connected again; going on from the last checkpoint.")
