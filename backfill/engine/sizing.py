"""Sizing: how many blocks the next batch gets, from how long the last ones took. Pure.

A transaction holds its row locks, and keeps vacuum from cleaning, for as long as it lasts; the
target is a time therefore, and the number of blocks only follows from it.
"""

from dataclasses import dataclass, field

MAX_GROWTH = 1.2  # a batch may grow by a fifth a step: an estimate from one fast batch is a trap
AIM = 0.5  # of the target, for the average: a checkpoint makes some transactions half as long again, and more
WEIGHT = 0.4  # of the newest measurement in the moving average
SPARSE = 0.5  # of the most rows that a block was good for: less than that, and a batch proves little
FIRST_BLOCKS = 500  # 4 MB: what to begin with on a server nobody has measured yet
FLOOR_BLOCKS = 8  # below this the transaction itself costs more than its rows; only timeouts go lower


@dataclass
class Sizer:
    """The batch size of one phase. *ceiling* is the operator's --batch-blocks."""

    target: float  # seconds a transaction
    ceiling: int
    blocks: int = 0
    _average: float | None = field(default=None, init=False)  # seconds a block and transaction
    _densest: float = field(default=0.0, init=False)  # rows written a block

    def __post_init__(self) -> None:
        self.blocks = min(self.blocks or FIRST_BLOCKS, self.ceiling)

    @property
    def floor(self) -> int:
        """The smallest size that time alone leads to."""
        return min(FLOOR_BLOCKS, self.ceiling)

    def measured(self, blocks: int, seconds: float, written: int | None = None) -> int:
        """Take in the longest transaction of a batch of *blocks*; returns the size of the next one.

        Where *written* says how many rows it wrote, one that found most of them done, by the live application
        or before a kill, makes no batch larger: 0.1 s for 4,288 blocks of those led to 1.3 s for 6,174 others.
        """
        if blocks <= 0 or seconds <= 0:
            return self.blocks
        if written is not None:
            density = written / blocks
            self._densest = max(self._densest, density)
            if seconds <= self.target and density < SPARSE * self._densest:
                return self.blocks
        each = max(seconds / blocks, 1e-9)  # a clock has a smallest step
        self._average = each if self._average is None else WEIGHT * each + (1 - WEIGHT) * self._average
        if seconds > self.target:  # at once, and by what it was, not by what it used to be
            self._average = max(self._average, each)
            wanted = min(AIM * self.target / each, self.blocks)
        else:
            grown = (
                self.blocks * MAX_GROWTH if blocks * 2 > self.blocks else self.blocks
            )  # a stub proves little
            wanted = min(AIM * self.target / self._average, grown)
        self.blocks = max(self.floor, min(int(wanted), self.ceiling))
        return self.blocks

    def timed_out(self, blocks: int) -> int:
        """A batch of *blocks* ran into a timeout: the next ones get half of it."""
        self.blocks = max(1, min(self.blocks, blocks // 2))
        return self.blocks
