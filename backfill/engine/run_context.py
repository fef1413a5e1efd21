"""Errand: what the parts of one run share: where it works, on what, and who is listening."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine

from backfill.database.timeouts import Limits
from backfill.engine.control import Control
from backfill.identity import JobId
from backfill.ledger.runs import Run
from backfill.plan import Job, Plan
from backfill.settings import Settings


class Failed(Exception):
    """The run cannot come to its end in this attempt; the text says why."""


class NoServer(Failed):
    """The server was lost and did not come back in time."""


class MapEmptied(Exception):
    """The server crashed, and the unlogged address map with it: resolve begins again."""


@dataclass(frozen=True)
class Errand:
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

    @property
    def schema(self) -> str:
        """The ledger's schema."""
        return self.settings.ledger_schema

    @property
    def limits(self) -> Limits:
        """Of each transaction of a batch."""
        return Limits(statement=self.settings.timeout_seconds)
