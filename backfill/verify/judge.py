"""Judge: what a kind of job knows of proving. One object a job and verification; ``judges`` lists them.

Ranges, connections and what is read again are the same for every kind (``verifier``). A judge imports nothing of
what writes the rows: it recomputes what they should hold.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection

from backfill.database.blocks import Range
from backfill.geo.geo_database import GeoDatabase
from backfill.hashing.pseudonym import Pseudonyms
from backfill.ledger.coverage_record import CoverageRecord
from backfill.ledger.verification_ranges import RangeCounts
from backfill.plan import Plan
from backfill.verify.confirmation import Confirmation


@dataclass(frozen=True)
class Ground:
    """What a verification gives to the judge of each job."""

    schema: str  # of the ledger
    plan: Plan
    fingerprint: str
    hasher: Callable[[str], str]
    geo: GeoDatabase | None  # None: the plan has no address table
    number: int  # of the verification
    confirmation: Confirmation  # of salt and scheme
    pseudonyms: Pseudonyms | None = None  # of the key id; None: no prefix was allotted, so there are none


class Judge(Protocol):
    """Judges the rows of one job."""

    def begin(self, connection: Connection) -> None:
        """Look at the table as it is: called once, before any range is read."""
        ...

    @property
    def asks_hashes(self) -> bool:
        """Whether its rows are read once more where a hash of the address table turns out to be wrong."""
        ...

    def read(
        self, connection: Connection, span: Range, slot: AbstractContextManager[Any], *, hashes_amiss: bool
    ) -> RangeCounts:
        """Judge one range. *slot*: held while the server works."""
        ...

    def verdict(self, connection: Connection, held: list[RangeCounts]) -> CoverageRecord:
        """The table's record, from what its ranges held."""
        ...
