"""Place: what a scan knows about one place; counts and names, never a value."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from backfill.addresses import Reason, canonicalise
from backfill.scan.columns import Column
from backfill.scan.patterns import Hit, Looks, Sureness

Z = 1.96  # standard deviations: 95 %
# Odd spellings and rubbish were some per cent of real raw columns; names or comments among which addresses occur
# had a few per cent of addresses in one, and half in the other. Under 20 values, each has to be one.
RAW_SHARE = 0.95


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
    are: int = 0  # judged values that are one address and nothing else, in whatever spelling
    lists: int = 0  # judged values that are a list of them
    aside: int = (
        0  # values looked at that are empty or a placeholder: they say nothing of what the column is for
    )
    column: Column | None = None  # where it is a whole column
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

    def weigh(self, text: str) -> None:
        """Count a judged value of a text column by whether it *is* an address."""
        if not isinstance(canonicalise(text), Reason):
            self.are += 1
        elif "," in text and not any(isinstance(canonicalise(part), Reason) for part in text.split(",")):
            self.lists += 1

    @property
    def share(self) -> float:
        """Of the values that are neither NULL, empty nor a placeholder: how many are an address, as a share."""
        telling = self.seen - self.aside
        if telling <= 0 or not self.judged:
            return 0.0
        return min(self.matching * self.are / self.judged / telling, 1.0)

    @property
    def proposed(self) -> bool:
        """Whether it is a raw column: what it holds are addresses, and not texts that contain some."""
        return self.column is not None and self.share >= RAW_SHARE

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
