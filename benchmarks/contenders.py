"""Contenders: the ways to do the work that are compared. A new one is a file and a line in ``ALL``."""

from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.ground import Site


@dataclass(frozen=True)
class Work:
    """What a contender says about its own work; everything else is measured from outside."""

    seconds: float
    parts: dict[str, float] = field(default_factory=dict)  # seconds by name, where it has parts
    longest: float | None = None  # longest transaction, seconds
    sampled: bool = False  # did a part of the rows only; rows/s is extrapolated


class Contender(Protocol):
    """One way to give every event its link (and its geo)."""

    name: str
    complete: bool  # leaves the same rows as the others; False for a sample

    def prepare(self, site: Site) -> None:
        """What is not to be timed."""

    def run(self, site: Site) -> Work:
        """Do the work."""


def all_contenders() -> list[Contender]:
    """The list, in the order of the report."""
    from benchmarks.orm_loop import OrmLoop
    from benchmarks.our_run import OurRun
    from benchmarks.our_shadow import OurShadow
    from benchmarks.rewrite import Rewrite
    from benchmarks.single_update import SingleUpdate

    return [SingleUpdate(), OurRun(), OurShadow(), Rewrite(), OrmLoop()]
