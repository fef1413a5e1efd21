"""Record: one contender on one copy of the database; kept as a line of JSON, so that series can be joined."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """What one run of one contender cost, and what it left. Bytes and seconds throughout."""

    contender: str
    series: str  # contenders, growth, distinct
    about: str  # when, where and on what
    sitting: str  # runs of one are compared with each other only
    round: int
    events: int
    distinct: int
    linked: int  # rows that got a link
    waiting: int  # rows that had a text and no link
    seconds: float
    cpu_seconds: float  # of server and client together: what noise on the machine does not change much
    wal_bytes: int
    table_bytes: int  # of the five tables with their TOAST, afterwards
    index_bytes: int
    grew: float  # tables afterwards over before
    sampled: bool = False
    complete: bool = True
    longest: float | None = None  # transaction
    fresh_bytes: int | None = None  # of the same tables after a VACUUM FULL
    blocked: float | None = None  # the live writer's longest statement with its commit
    blocked_statement: float | None = None  # and without
    writes: int | None = None  # of the live writer
    write_errors: list[str] = field(default_factory=list)
    pss_bytes: int | None = None
    raw_left: int | None = None  # distinct raw texts in the tables' files
    raw_known: int | None = None  # that were looked for
    parts: dict[str, float] = field(default_factory=dict)
    content: str | None = None  # fingerprint of the rows

    @property
    def whole_seconds(self) -> float:
        """Of the whole work; extrapolated for a sample."""
        return self.seconds * self.waiting / self.linked if self.sampled and self.linked else self.seconds

    @property
    def rate(self) -> float:
        """Rows with a text and no link that were seen to, a second."""
        return self.waiting / self.whole_seconds

    def write(self, path: Path) -> None:
        """Append it."""
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(self)) + "\n")


def read(paths: Iterable[Path]) -> list[Record]:
    """All records of these files."""
    return [
        Record(**json.loads(line))
        for path in paths
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
