"""Phases: the steps of a run. The ledger keeps their names, which are stable: "resolve", "sweep-2-link"."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator


class Work(StrEnum):
    """What is done in a phase."""

    RESOLVE = "resolve"  # compute each distinct text once, and enter it into the map
    LINK = "link"  # give every row what its job asks for
    FILL = "fill"  # give the address table what the live application left empty
    CLOSE = "close"  # count the rows as they are
    COPY = "copy"  # of a run that copies: load the new table
    INDEX = "index"
    COMPARE = "compare"


BY_WORKERS = frozenset({Work.LINK, Work.COPY})
SWEEP = "sweep"
# Not swept: counts of what was written by batches that are gone, or are another job's. ``batches`` says more.
OUTSIDE = {1_000: "moved", 1_001: "shared"}


@dataclass(frozen=True)
class Phase:
    """One step of a run: *work* over all rows, or over what is left of them in the *sweep* of that number."""

    work: Work
    sweep: int = 0  # 0: over all rows

    @property
    def name(self) -> str:
        """As the ledger, logs and metrics have it."""
        if self.sweep in OUTSIDE:
            return f"{OUTSIDE[self.sweep]}-{self.work}"
        return f"{SWEEP}-{self.sweep}-{self.work}" if self.is_sweep else str(self.work)

    def __str__(self) -> str:
        return self.name

    @property
    def is_sweep(self) -> bool:
        """Nearly all rows are expected to be done: few of those that are read need the map."""
        return self.sweep > 0

    @property
    def by_workers(self) -> bool:
        """Several workers share the phase; of the others, the driver does a batch at a time."""
        return self.work in BY_WORKERS

    @property
    def cost(self) -> tuple[Work, bool]:
        """The same for phases whose batches cost alike, so that they share a batch size."""
        return self.work, self.is_sweep

    @property
    def group(self) -> str:
        """The name under which a report adds it up: all sweeps together, each other phase by itself."""
        return SWEEP if self.is_sweep and self.sweep not in OUTSIDE else str(self.work)


@lru_cache
def named(name: str) -> Phase:
    """The phase of that *name*. Raises ``ValueError`` where no phase has it."""
    head, dash, rest = name.partition("-")
    for outside, called in OUTSIDE.items():
        if head == called and dash:
            return Phase(Work(rest), outside)
    if head != SWEEP or not dash:
        return Phase(Work(name))
    number, _, work = rest.partition("-")
    if int(number) < 1:
        raise ValueError(f"{number} is no number of a sweep")
    return Phase(Work(work), int(number))


class PhaseName(TypeDecorator[Phase]):
    """A column that holds a phase by its name."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Phase | None, dialect: Dialect) -> str | None:
        """To the ledger."""
        return None if value is None else value.name

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Phase | None:
        """From the ledger."""
        return None if value is None else named(value)


RESOLVE, LINK, FILL, CLOSE = map(Phase, (Work.RESOLVE, Work.LINK, Work.FILL, Work.CLOSE))
COPY, INDEX, COMPARE = map(Phase, (Work.COPY, Work.INDEX, Work.COMPARE))
