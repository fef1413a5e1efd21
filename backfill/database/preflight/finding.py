"""Findings: what preflight reports, each under a stable code."""

from dataclasses import dataclass
from enum import StrEnum

RAW_COPIED = "raw-copied"  # no finding: only a batch comes upon it. In a plan's ``accept``, with schema, table and column


class Severity(StrEnum):
    """What a finding means for the command that asked."""

    BLOCKS = "blocks"
    CHANGES = "will change"  # blocks until it is accepted by name
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One finding. Names objects of the catalog, never a value of a row."""

    code: str
    severity: Severity
    subject: str
    problem: str
    fix: str

    @property
    def name(self) -> str:
        """``code:subject``: what ``--accept`` and the plan's ``accept`` take."""
        return f"{self.code}:{self.subject}"

    @property
    def text(self) -> str:
        """Problem and fix, two sentences."""
        return f"{self.problem} {self.fix}".strip()


@dataclass(frozen=True)
class Kind:
    """A kind of finding. Each is declared in the module of its topic; docs/preflight.md has a row for it."""

    code: str
    severity: Severity

    def __call__(self, subject: str, problem: str, fix: str) -> Finding:
        return Finding(self.code, self.severity, subject, problem, fix)


def blocks(code: str) -> Kind:
    """A kind that blocks."""
    return Kind(code, Severity.BLOCKS)


def changes(code: str) -> Kind:
    """A kind that blocks until it is accepted."""
    return Kind(code, Severity.CHANGES)


def note(code: str) -> Kind:
    """A kind that is said, and nothing more."""
    return Kind(code, Severity.NOTE)
