"""Contenders: the ways to do the work that are compared. A new one is a file and a line in the list."""

from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.ground import Site


@dataclass(frozen=True)
class Work:
    """What a contender says about its own work; everything else is measured from outside."""

    seconds: float
    parts: dict[str, float] = field(default_factory=dict)  # seconds by name, where it has parts
    longest: float | None = None  # longest transaction, seconds
    pss_bytes: int | None = None  # of its processes, where it is a command of ours


class Contender(Protocol):
    """One way to give every event its link (and its geo)."""

    @property
    def name(self) -> str:
        """In the report."""

    @property
    def complete(self) -> bool:
        """Whether it leaves the same rows as the others; False for a sample, or where no raw column is left."""

    @property
    def sampled(self) -> bool:
        """Whether it does a part of the rows only; the rest is extrapolated."""

    def prepare(self, site: Site) -> None:
        """What is not to be timed."""

    def run(self, site: Site) -> Work:
        """Do the work."""


BASELINE, FLOOR = "one UPDATE a table", "VACUUM FULL of the finished tables"


def all_contenders(*, watch: bool = True) -> list[Contender]:
    """The list, in the order of the report. *watch*: the memory of our own commands."""
    from benchmarks.key_batches import KeyBatches
    from benchmarks.orm_loop import OrmLoop
    from benchmarks.our_run import OurRun
    from benchmarks.our_shadow import OurShadow
    from benchmarks.rewrite import Rewrite
    from benchmarks.single_update import SingleUpdate

    return [
        SingleUpdate(),
        KeyBatches(),
        OurRun(2, watch),
        OurRun(1, watch),
        OurShadow(2, watch),
        OurShadow(1, watch),
        Rewrite(),
        OrmLoop(),
    ]
