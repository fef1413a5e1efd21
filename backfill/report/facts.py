"""Facts: everything that a report is about, as collected; ``sections`` makes the document of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backfill.gates.survey import Stage
from backfill.ledger.coverage_record import CoverageRecord
from backfill.verify.standing import Standing


@dataclass(frozen=True)
class Left:
    """Something that remains to be done, and by whom."""

    who: str
    what: str


@dataclass(frozen=True)
class Phase:
    """A phase of the last run, in seconds since its first batch began."""

    name: str
    start: float
    end: float
    rows: int  # written


@dataclass(frozen=True)
class RunStory:
    """The last run: when, how long, how much, and how fast at each time."""

    number: int
    status: str
    began: datetime
    ended: datetime | None
    jobs: tuple[str, ...]
    phases: tuple[Phase, ...]
    pace: tuple[tuple[float, int], ...]  # seconds since the beginning, rows written in that slice
    seconds: float  # from the first batch to the last
    written: int


@dataclass(frozen=True)
class Place:
    """A cell of five by five degrees, by its south-west corner."""

    latitude: int
    longitude: int
    events: int


@dataclass(frozen=True)
class Geography:
    """Where the events come from, coarse enough to point at nobody."""

    places: tuple[Place, ...]
    countries: tuple[tuple[str, int], ...]
    located: int  # events with geo among those looked at
    looked_at: int
    sampled: bool


@dataclass(frozen=True)
class Decision:
    """What somebody decided, on record."""

    kind: str
    table: str
    count: int
    by: str
    at: datetime
    what: str = ""  # the column that was dropped, what rows were settled as, what was repaired

    @property
    def shown(self) -> str:
        """Kind and object, for people."""
        return f"{self.kind} {self.what}".strip()


@dataclass(frozen=True)
class Quarantined:
    """Rows that were ever put aside, by table and reason: those that wait, those that were decided about, and those that
    the plan keeps."""

    table: str
    reason: str
    waiting: int
    decided: int
    kept: int = 0


@dataclass(frozen=True)
class Facts:
    """What one report is about."""

    made: datetime
    database: str  # its name
    verdict: str
    covered: bool
    dropped: bool  # every raw column is gone; what the records say was so before
    records: Sequence[CoverageRecord]
    run: RunStory | None
    geography: Geography
    left: Sequence[Left]
    stages: Sequence[Stage]
    decisions: Sequence[Decision]
    quarantine: Sequence[Quarantined]
    provenance: Mapping[str, str]
    erased: bool = False  # the last search found no byte of what was dropped
    standing: Standing = field(
        default_factory=Standing
    )  # how old raw values are, of jobs with an age, as of now
