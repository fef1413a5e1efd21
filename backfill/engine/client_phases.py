"""Desk: what a driver does in its own process, where the salt is: resolve and fill.

Resolve computes one batch while the server enters two others: computing a text costs about what entering
it costs the server, so that one session would wait for the interpreter half of the time, or the
interpreter for it. Batches that are in hand share no text; addresses they may share, and wait for each
other then, in the order of the addresses.
"""

import uuid
from collections.abc import Iterable, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import psycopg2
from sqlalchemy.exc import DBAPIError

from backfill.engine.control import Stop
from backfill.engine.progress import Progress
from backfill.engine.run_batch import Outcome, Terms, Work, attempt
from backfill.engine.run_context import Errand
from backfill.engine.scheduler import Ranges
from backfill.jobs import fill, resolve
from backfill.jobs.phases import FILL, RESOLVE
from backfill.jobs.resolve import Ready, Resolver
from backfill.ledger.batches import Account, Batch

SESSIONS = 2  # that enter what was resolved; more of them would wait for the interpreter
HELD_SECONDS = 0.5  # between two looks at a batch that somebody else holds, who may be gone


class Desk:
    """One run's, for its driver."""

    def __init__(self, errand: Errand, ranges: Ranges, resolver: Resolver) -> None:
        self._errand, self._ranges, self._resolver = errand, ranges, resolver

    def resolve(self, phase: str) -> int:
        """Resolve what the map lacks; returns the texts entered."""
        errand, ranges = self._errand, self._ranges
        for job in errand.jobs:
            ranges.plan(phase, job)
        sessions = min(errand.settings.workers, SESSIONS)
        in_hand: dict[Future[Outcome], Ready] = {}
        with (
            Progress(phase, ranges.rows_left(phase), quiet=errand.quiet) as progress,
            ThreadPoolExecutor(sessions, "resolve") as pool,
        ):
            while ranges.is_open(phase):
                ready = self._next(phase, in_hand.values()) if len(in_hand) <= sessions else None
                if ready is not None:
                    in_hand[pool.submit(self._try, ready.batch, self._entering(ready))] = ready
                elif not in_hand:
                    ranges.take_back()
                    errand.control.sleep(HELD_SECONDS)
                done, _ = wait(in_hand, timeout=None if ready is None else 0, return_when=FIRST_COMPLETED)
                for future in done:
                    progress.advance(self._ranges.take_in(future.result(), in_hand.pop(future).batch))
        return ranges.written(phase)

    def fill(self) -> None:
        """Give hash and place to what the live application left without."""
        errand, ranges, addresses = self._errand, self._ranges, self._errand.plan.addresses
        ranges.plan(FILL, addresses)

        def work(batch: Batch, lease: uuid.UUID) -> Account:
            return fill.process(
                errand.engine, errand.schema, addresses, self._resolver, batch, lease, errand.limits
            )

        while ranges.is_open(FILL):
            errand.control.checkpoint(errand.run)
            batch = ranges.pick(FILL)
            if batch is None:
                ranges.take_back()
                errand.control.sleep(HELD_SECONDS)
            else:
                self._do(batch, work)
        errand.control.checkpoint(errand.run)
        with errand.engine.begin() as connection:
            fill.settle_odd_rows(connection, errand.schema, addresses, self._resolver, errand.run.id)

    def stoppable(self, work: Work) -> Work:
        """*work*, whose statements are cancelled when somebody is in a hurry: no timeout then, and no retry."""

        def stoppable(batch: Batch, lease: uuid.UUID) -> Account:
            try:
                return work(batch, lease)
            except (DBAPIError, psycopg2.Error):
                if self._errand.control.stopping:
                    raise Stop(self._errand.control.reason) from None
                raise

        return stoppable

    def _next(self, phase: str, in_hand: Iterable[Ready]) -> Ready | None:
        """The next batch, read and computed; None where nobody needs one now. Its siblings are *in_hand*."""
        self._errand.control.checkpoint(self._errand.run)
        batch = self._ranges.pick(phase, frozenset(ready.batch.id for ready in in_hand))
        if batch is None:
            return None
        return self._prepare(batch, {one.raw for ready in in_hand for one in ready.resolved})

    def _do(self, batch: Batch, work: Work) -> int:
        """Do one batch; returns the rows that are done with it."""
        return self._ranges.take_in(self._try(batch, work), batch)

    def _try(self, batch: Batch, work: Work) -> Outcome:
        """Do one batch, in whatever thread, and rest as long as we are asked to."""
        errand, nice = self._errand, self._errand.settings.nice
        terms = Terms(errand.limits, patience=0, nice=nice)
        outcome = attempt(errand.engine, batch.id, self.stoppable(work), terms, sleep=errand.control.sleep)
        if outcome.error is not None and errand.control.stopping:
            raise Stop(errand.control.reason)
        if outcome.account is not None:
            errand.control.sleep(nice * outcome.account.seconds)
        return outcome

    def _prepare(self, batch: Batch, in_flight: Set[str]) -> Ready:
        errand = self._errand
        return resolve.prepare(
            errand.engine,
            errand.schema,
            errand.plan.job(batch.job),
            self._resolver,
            batch,
            in_flight,
            errand.limits,
            counting=batch.phase == RESOLVE,  # before anything is linked: what the closing count starts from
        )

    def _entering(self, ready: Ready) -> Work:
        errand = self._errand

        def work(_batch: Batch, lease: uuid.UUID) -> Account:
            return resolve.process(
                errand.engine,
                errand.schema,
                errand.plan.addresses,
                self._resolver,
                ready,
                lease,
                errand.limits,
            )

        return work
