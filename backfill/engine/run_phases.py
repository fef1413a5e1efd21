"""Run phases: enters a phase, on record, and has it done by the driver's own process or by workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backfill.engine.client_phases import ClientPhases
from backfill.engine.recovery import Recovery
from backfill.engine.run_context import RunContext
from backfill.engine.scheduler import BatchScheduler
from backfill.engine.worker_phases import WorkerPhases
from backfill.ledger import runs
from backfill.ledger.phases import FILL, Phase


@dataclass(frozen=True)
class RunPhases:
    """The components of one attempt at a run, for its driver and its strategy."""

    context: RunContext
    scheduler: BatchScheduler
    recovery: Recovery
    client: ClientPhases
    workers: WorkerPhases

    @contextmanager
    def entered(self, phase: Phase) -> Iterator[None]:
        """Do the block as *phase*, once the run may go on. Raises what ``Control.checkpoint`` raises."""
        context = self.context
        context.hooks.before_phase(phase)
        context.control.checkpoint(context.run)
        with context.engine.begin() as connection:
            runs.enter(connection, context.run.id, phase)
        context.observe("phase", run=context.run.id, phase=phase.name)
        yield
        context.hooks.after_phase(phase)

    def resolve(self, phase: Phase) -> int:
        """Resolve what the map lacks; returns the texts entered."""
        with self.entered(phase):
            return self.client.resolve(phase)

    def fill(self) -> None:
        """Give hash and place to what the live application left without."""
        with self.entered(FILL):
            self.client.fill()

    def link(self, phase: Phase, passes: int) -> int:
        """Give rows what their job asks for, by workers; returns the rows written."""
        with self.entered(phase):
            return self.workers.link(phase, passes)
