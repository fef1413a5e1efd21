"""Phase hooks: called at the boundaries of a run's phases and before each try at a batch.

For tests, and for whoever embeds the driver: what has to happen between two phases happens there and needs no
knowledge of how the driver is built. What a hook raises ends the attempt, as an error in its place would.
"""

from collections.abc import Callable
from dataclasses import dataclass

from backfill.ledger.batches import Batch
from backfill.ledger.phases import Phase


def nothing(_: object) -> None:
    """Where nobody listens; a function of the module, so that a worker process can be given it."""


@dataclass(frozen=True)
class PhaseHooks:
    """Each is called in the thread that does the work; *before_batch* of workers in other processes has to be picklable."""

    before_phase: Callable[[Phase], None] = nothing  # before the ledger has it
    after_phase: Callable[[Phase], None] = nothing  # when all of it is done
    before_batch: Callable[[Batch], None] = nothing  # claimed; again before each retry


NO_HOOKS = PhaseHooks()
