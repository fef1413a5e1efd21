"""Findings: what a look at one place came to, how deep it went, and what is outside our reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Depth(StrEnum):
    """How deep a proof looks; each shows what the one before cannot."""

    CATALOG = "catalog"  # nothing is named any more
    PAGES = "pages"  # no row version carries it
    BYTES = "bytes"  # the files do not hold it, free space and WAL included


class State(StrEnum):
    """What a look came to."""

    GONE = "gone"
    FOUND = "found"
    UNPROVED = "unproved"  # we could not look: never to be read as gone
    NOTE = "note"  # worth knowing; decides nothing


@dataclass(frozen=True)
class Finding:
    """One place. *what* holds counts and names, never a value."""

    depth: Depth
    where: str
    state: State
    what: str
    act: str = ""  # the command that fixes it


@dataclass(frozen=True)
class ExternalCopy:
    """A place that no command of ours reaches: who has to act there, and until when it lasts."""

    name: str
    state: str
    who: str
    until: str


@dataclass(frozen=True)
class Evidence:
    """All of it, as the ledger keeps it and the reports show it."""

    findings: tuple[Finding, ...]
    external_copies: tuple[ExternalCopy, ...]

    @property
    def verdict(self) -> State:
        """FOUND when any place holds something, UNPROVED when any could not be looked at."""
        return verdict(self.findings)

    @property
    def depth(self) -> str:
        """The deepest that was reached."""
        reached = {finding.depth for finding in self.findings if finding.state in (State.GONE, State.FOUND)}
        return max(reached, key=list(Depth).index).value if reached else "none"


def verdict(findings: Sequence[Finding]) -> State:
    """The worst of them."""
    states = {finding.state for finding in findings}
    for state in (State.FOUND, State.UNPROVED):
        if state in states:
            return state
    return State.GONE
