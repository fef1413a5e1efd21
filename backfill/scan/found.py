"""Found: what a scan knows about one place; counts and names, never a value."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from backfill.scan.patterns import Hit, Looks, Sureness

Z = 1.96  # standard deviations: 95 %


@dataclass
class Found:
    """One column, JSON path or object of the catalog."""

    where: str
    what: str  # its type, or what sort of object it is
    rows: int = 0  # values there, or the estimate
    seen: int = 0  # values looked at
    matching: int = 0  # of those, values that passed the prefilter
    judged: int = 0  # of those, values that were judged
    sure: int = 0  # judged values that hold at least one
    likely: int = 0  # hold one that is likely, and none that is sure
    unlikely: int = 0
    public: int = 0  # judged values with a public address, sure or likely
    looks: Counter[Looks] = field(default_factory=Counter)
    unread: str = ""  # why it could not be read; then nothing is known of it
    planned: bool = False  # the plan takes care of it
    allowed: str = ""  # the reason in the allow-list

    def judge(self, hits: Iterable[Hit]) -> bool:
        """Count one value by the best of its hits; whether it had any."""
        found = list(hits)
        if not found:
            return False
        best = min(found, key=lambda hit: list(Sureness).index(hit.sureness))
        match best.sureness:
            case Sureness.SURE:
                self.sure += 1
            case Sureness.LIKELY:
                self.likely += 1
            case Sureness.UNLIKELY:
                self.unlikely += 1
        self.looks[best.looks] += 1
        self.public += any(hit.public and hit.sureness is not Sureness.UNLIKELY for hit in found)
        return True

    @property
    def alarming(self) -> bool:
        """Whether it makes a scan fail: an address that is sure or likely, and nobody allowed it; or unread."""
        return bool((self.sure or self.likely or self.unread) and not self.allowed)

    def scaled(self, number: int) -> int:
        """*number* of judged values, over all values of the place."""
        if not self.judged or not self.seen:
            return number
        share = self.matching / self.judged * max(self.rows, self.seen) / self.seen
        return max(number, round(number * share))

    @property
    def exact(self) -> bool:
        """Whether every value was looked at, and every match judged."""
        return self.seen >= self.rows and self.judged >= self.matching

    @property
    def at_most(self) -> int:
        """Where nothing was found: how many may still be there, with 95 % confidence (rule of three)."""
        if self.sure + self.likely or self.seen >= self.rows or not self.seen:
            return 0
        return round(3 / self.seen * self.rows)

    @property
    def margin(self) -> float:
        """Half-width of the 95 % interval of the share of values with an address, as a share."""
        if self.exact or not self.seen:
            return 0.0
        share = min(self.scaled(self.sure + self.likely) / max(self.rows, self.seen), 1.0)
        return Z * float((share * (1 - share) / max(min(self.seen, self.judged or self.seen), 1)) ** 0.5)
