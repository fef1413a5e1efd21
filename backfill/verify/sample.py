"""Pure: which blocks a sample reads, and what it says about the others.

The unit is a chunk of neighbouring blocks, not a row: rows of one block were written together and
go wrong together, and a bound that took them for independent would promise too much.
"""

import math
import random
from collections.abc import Iterator

from backfill.database.blocks import Range

CHUNK_BLOCKS = 8  # 64 kB: few enough to spread the sample, enough to be worth a query
CONFIDENCE = 0.95


def chunks(blocks: int, percent: float, seed: int) -> Iterator[Range]:
    """A random *percent* of the chunks of a table, at least one, in the order in which they lie.

    The same *seed* gives the same sample: an interrupted one goes on.
    """
    total = math.ceil(blocks / CHUNK_BLOCKS)
    if not total:
        return
    chosen = random.Random(seed).sample(range(total), max(1, min(total, round(total * percent / 100))))  # noqa: S311
    for number in sorted(chosen):
        yield Range(number * CHUNK_BLOCKS, min((number + 1) * CHUNK_BLOCKS, blocks))


def upper_bound(bad: int, sampled: int, confidence: float = CONFIDENCE) -> float:
    """With that confidence no more than this share of all chunks is bad, *bad* of *sampled* being so.

    Clopper-Pearson, one-sided; for none bad it is 1 - (1 - confidence) ** (1 / sampled).
    """
    if bad >= sampled:
        return 1.0
    low, high = bad / sampled, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(bad, sampled, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(bad: int, sampled: int, share: float) -> float:
    """P(X <= bad) of a binomial; in logarithms, since the factors leave a float's range."""
    if share >= 1.0:
        return 0.0
    if share <= 0.0:
        return 1.0
    return math.fsum(
        math.exp(
            math.lgamma(sampled + 1)
            - math.lgamma(k + 1)
            - math.lgamma(sampled - k + 1)
            + k * math.log(share)
            + (sampled - k) * math.log1p(-share)
        )
        for k in range(bad + 1)
    )
