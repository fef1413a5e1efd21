"""Pure: what is asked about. A line of input becomes an address, or the reason why it is none.

Nothing here, and nothing that is made of it, repeats a line: a question is named by its number.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from backfill import escaping
from backfill.addresses import Address, Reason, canonicalise
from backfill.errors import NoQuestion, NotAHash, NotAnAddress
from backfill.scan.patterns import hits

MOST_BYTES = 16 << 20  # of standard input; a million lines of 15 characters
_HASH = re.compile(r"[0-9a-f]{64}")
_NETWORK = re.compile(r"[0-9A-Fa-f.:]*[0-9:]/[0-9.]+")

# What to do instead, of what is often tried.
INSTEAD = {
    Reason.EMPTY: "it is empty",
    Reason.TOO_LONG: "it is too long for an address",
    Reason.CONTROL_CHARACTERS: "it holds control characters; send UTF-8 text, one address a line",
    Reason.UNKNOWN: "it says that there is no address",
    Reason.FORWARDED_LIST: "it is a list; send each address on a line of its own",
    Reason.NETWORK: "it is a network, and a hash is that of one address; send its addresses, one a line",
    Reason.ZERO_PADDED: "its numbers begin with zeros, which some read as octal; write it without them",
    Reason.HOST_NAME: "it is a host name, and what it resolved to at the time is not known; send the address",
    Reason.NOT_AN_ADDRESS: "it is no address",
    Reason.UNDECODABLE: "it is not UTF-8 text",
}


class Kind(StrEnum):
    """What a question names."""

    ADDRESS = "address"
    HASH = "hash"
    ROW = "row"


@dataclass(frozen=True)
class Question:
    """One thing that is asked about; *number* is its line, or its place among the options."""

    number: int
    kind: Kind
    address: Address | None = field(default=None, repr=False)
    named: str = ""  # the hash, or the key of the row
    problem: Reason | None = None

    @property
    def label(self) -> str:
        """What messages call it: never the address."""
        return f"line {self.number}" if self.kind is Kind.ADDRESS else f"{self.kind} {self.named}"


def questions_of_lines(content: bytes) -> list[Question]:
    """One a line that is not blank, by the number of the line. Raises ``NoQuestion``."""
    if len(content) > MOST_BYTES:
        raise NoQuestion(problem=f"standard input has more than {MOST_BYTES >> 20} MiB")
    found = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            address = canonicalise(line.decode())
        except UnicodeDecodeError:
            address = Reason.UNDECODABLE
        if isinstance(address, Reason):
            found.append(Question(number, Kind.ADDRESS, problem=address))
        else:
            found.append(Question(number, Kind.ADDRESS, address))
    if not found:
        raise NoQuestion(problem="standard input is empty")
    return found


def questions_of_options(hashes: Sequence[str], keys: Sequence[str]) -> list[Question]:
    """Of ``--hash`` and ``--row``. Raises ``NotAHash``."""
    found = []
    for number, given in enumerate(hashes, 1):
        named = given.strip().lower()
        if not _HASH.fullmatch(named):
            raise NotAHash(length=len(given.strip()))
        found.append(Question(number, Kind.HASH, named=named))
    return found + [Question(number, Kind.ROW, named=key) for number, key in enumerate(keys, len(hashes) + 1)]


def problems(asked: Sequence[Question]) -> Iterator[str]:
    """The lines that are no address, in words that hold nothing of them."""
    for one in asked:
        if one.problem is not None:
            yield f"{one.label}: {INSTEAD[one.problem]}"


def require_addresses(asked: Sequence[Question], *, some: bool) -> None:
    """Raises ``NotAnAddress`` where a line is none; *some*: only where all are none."""
    wrong = list(problems(asked))
    if wrong and not (some and len(wrong) < len(asked)):
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5:,} more" if len(wrong) > 5 else "")
        raise NotAnAddress(
            wrong=escaping.counted(len(wrong), "line is", "lines are"), asked=f"{len(asked):,}", lines=shown
        )


def holds_address(word: str) -> bool:
    """Whether a word of a command line is, or holds, an address or a network."""
    parts = (word, word.rpartition("=")[2])  # of "--hash=…" as well
    if any(not isinstance(canonicalise(part), Reason) or _NETWORK.fullmatch(part) for part in parts):
        return True
    return next(hits(word), None) is not None
