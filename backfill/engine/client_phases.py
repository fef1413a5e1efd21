"""Client phases: what a driver does in its own process, where the salt is: resolve and fill.

Resolve computes one batch while the server enters two others: computing a text costs about what entering
it costs the server, so that one session would wait for the interpreter half of the time, or the
interpreter for it. Batches that are in hand share no text; addresses they may share, and wait for each
other then, in the order of the addresses.
"""

import uuid
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sqlalchemy import Connection

from backfill.database.error_text import DRIVER_ERRORS
from backfill.engine import in_flight
from backfill.engine.progress import Progress
from backfill.engine.run_batch import BatchResult, RetryPolicy, Work, run_batch
from backfill.engine.run_context import RunContext
from backfill.engine.scheduler import BatchScheduler
from backfill.jobs import address_rows, fill, resolve, values
from backfill.jobs.resolve import Ready
from backfill.jobs.resolver import Resolved, Resolver
from backfill.jobs.values import ValueResolver
from backfill.ledger.batches import Batch, PassCounts
from backfill.ledger.claims import Stopped
from backfill.ledger.phases import FILL, RESOLVE, Phase
from backfill.plan import Addresses

SESSIONS = 2  # that enter what was resolved; more of them would wait for the interpreter
HELD_SECONDS = 0.5  # between two looks at a batch that somebody else holds, who may be gone


class ClientPhases:
    """One run's, for its driver."""

    def __init__(
        self, context: RunContext, scheduler: BatchScheduler, resolver: Resolver | ValueResolver
    ) -> None:
        self._context, self._scheduler, self._resolver = context, scheduler, resolver
        self._enter: resolve.Enter = (
            partial(_enter_addresses, context.schema, context.plan.addresses, resolver)
            if isinstance(resolver, Resolver)
            else partial(values.enter, context.schema)
        )

    def resolve(self, phase: Phase) -> int:
        """Resolve what the map lacks; returns the texts entered."""
        context, scheduler = self._context, self._scheduler
        for job in context.jobs:
            scheduler.plan(phase, job)
        sessions = min(context.settings.workers, SESSIONS)

        def idle() -> None:
            scheduler.take_back()
            context.control.sleep(HELD_SECONDS)

        with (
            Progress(phase.name, *scheduler.rows(phase), quiet=context.quiet) as progress,
            ThreadPoolExecutor(sessions, "resolve") as pool,
        ):
            for ready, future in in_flight.completed(
                lambda ready: pool.submit(self._try, ready.batch, self._entering(ready)),
                partial(self._next, phase, progress),
                goes_on=lambda _: scheduler.is_open(phase),
                slots=lambda: sessions + 1,  # one is ready when a session is
                idle=idle,
                poll_seconds=None,
            ):
                progress.advance(scheduler.take_in(future.result(), ready.batch))
            progress.finish()
        return scheduler.written(phase)

    def fill(self) -> None:
        """Give hash and place to what the live application left without; nothing where no links are made."""
        resolver = self._resolver
        if not isinstance(resolver, Resolver):
            return
        context, scheduler, addresses = self._context, self._scheduler, self._context.plan.addresses
        scheduler.plan(FILL, addresses)

        def work(batch: Batch, lease: uuid.UUID) -> PassCounts:
            return fill.process(
                context.engine, context.schema, addresses, resolver, batch, lease, context.timeouts
            )

        while scheduler.is_open(FILL):
            context.control.checkpoint(context.run)
            batch = scheduler.pick(FILL)
            if batch is None:
                scheduler.take_back()
                context.control.sleep(HELD_SECONDS)
            else:
                self._do(batch, work)
        context.control.checkpoint(context.run)
        with context.engine.begin() as connection:
            fill.settle_odd_rows(connection, context.schema, addresses, resolver, context.run.id)

    def stoppable(self, work: Work) -> Work:
        """*work*, whose statements are cancelled when somebody is in a hurry: no timeout then, and no retry."""

        def stoppable(batch: Batch, lease: uuid.UUID) -> PassCounts:
            try:
                return work(batch, lease)
            except DRIVER_ERRORS:
                if self._context.control.stopping:
                    raise Stopped(self._context.control.reason) from None
                raise

        return stoppable

    def _next(self, phase: Phase, progress: Progress, in_hand: Sequence[Ready]) -> Ready | None:
        """The next batch, read and computed; None where nobody needs one now. Its siblings are *in_hand*."""
        self._context.control.checkpoint(self._context.run, progress.wait)
        batch = self._scheduler.pick(phase, frozenset(ready.batch.id for ready in in_hand))
        if batch is None:
            return None
        return self._prepare(batch, {one.raw for ready in in_hand for one in ready.resolved})

    def _do(self, batch: Batch, work: Work) -> int:
        """Do one batch; returns the rows that are done with it."""
        return self._scheduler.take_in(self._try(batch, work), batch)

    def _try(self, batch: Batch, work: Work) -> BatchResult:
        """Do one batch, in whatever thread, and rest as long as we are asked to."""
        context, nice = self._context, self._context.settings.nice
        retry_policy = RetryPolicy(context.timeouts, patience=0, nice=nice)
        result = run_batch(
            context.engine,
            batch.id,
            self.stoppable(work),
            retry_policy,
            sleep=context.control.sleep,
            before_batch=context.hooks.before_batch,
        )
        if (result.stopped or result.error is not None) and context.control.stopping:
            raise Stopped(context.control.reason)
        if result.counts is not None:
            context.control.sleep(nice * result.counts.seconds)
        return result

    def _prepare(self, batch: Batch, in_flight: Set[str]) -> Ready:
        context = self._context
        return resolve.prepare(
            context.engine,
            context.schema,
            context.plan.job(batch.job),
            self._resolver,
            batch,
            in_flight,
            context.timeouts,
            counting=batch.phase == RESOLVE
            and batch.job
            not in self._scheduler.within,  # before anything is linked: what the closing count starts from
        )

    def _entering(self, ready: Ready) -> Work:
        context = self._context

        def work(_batch: Batch, lease: uuid.UUID) -> PassCounts:
            return resolve.process(context.engine, self._enter, ready, lease, context.timeouts)

        return work


def _enter_addresses(
    schema: str, addresses: Addresses, resolver: Resolver, connection: Connection, part: Sequence[Resolved]
) -> int:
    return address_rows.enter(connection, schema, addresses, resolver, list(part))
