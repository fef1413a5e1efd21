"""Run context: the dependencies that the components of one run share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine

from backfill.database.timeouts import Timeouts
from backfill.engine.control import Control
from backfill.engine.phase_hooks import NO_HOOKS, PhaseHooks
from backfill.job_id import JobId
from backfill.ledger.runs import Run
from backfill.plan import Job, Plan
from backfill.settings import Settings


class Failed(Exception):
    """The run cannot come to its end in this attempt; the text says why."""


class NoServer(Failed):
    """The server was lost and did not come back in time."""


@dataclass(frozen=True)
class RunContext:
    """One attempt at one run; *run* is what it was when the attempt began."""

    engine: Engine
    settings: Settings
    plan: Plan
    jobs: tuple[Job, ...]
    run: Run
    control: Control
    tell: Callable[[str], None]
    observe: Callable[..., None]
    quiet: bool
    see: Callable[[], Mapping[JobId, str]] = (
        dict  # preflight again; the tables' definitions, where nothing is in the way
    )
    hooks: PhaseHooks = NO_HOOKS

    @property
    def schema(self) -> str:
        """The ledger's schema."""
        return self.settings.ledger_schema

    @property
    def timeouts(self) -> Timeouts:
        """Of each transaction of a batch."""
        return Timeouts(statement=self.settings.timeout_seconds)
