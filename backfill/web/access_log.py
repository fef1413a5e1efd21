"""Access logs: the client address of each line becomes its hash, every other byte stays.

Works on blocks of whole lines, as bytes. A line without an address where one is expected is passed on,
dropped or refused (``Unreadable``). One that is passed on has every address that it holds elsewhere hashed:
nobody knows what such a line is, and an error text or a list of addresses is the usual case.
"""

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from backfill.addresses import Reason
from backfill.errors import LogLineRefused
from backfill.web.address_hashes import AddressHashes
from backfill.web.address_texts import AddressTexts, may_have_six
from backfill.web.json_members import NotJson, member_spans

_HASH = re.compile(rb"[0-9a-f]{64}")
_FIELD = re.compile(rb"[^ \t\r]*")
NO_COUNTRY = b'"-"'


class Unreadable(StrEnum):
    """What becomes of a line without an address where one is expected."""

    PASS = "pass"  # noqa: S105  # passed on; addresses in it become hashes
    DROP = "drop"
    REFUSE = "refuse"  # the file is left as it is


class LogFormat(StrEnum):
    """Where the client address stands."""

    COMBINED = "combined"  # first field
    COMMON = "common"  # the same
    VHOST_COMBINED = "vhost-combined"  # second field, after the virtual host
    JSON = "json"  # a member
    ANYWHERE = "anywhere"


FIELDS = {LogFormat.COMBINED: 0, LogFormat.COMMON: 0, LogFormat.VHOST_COMBINED: 1}


@dataclass
class LogCounts:
    """What was done to the lines of one file or stream, or of several."""

    lines: int = 0
    hashed: int = 0  # lines whose client address became a hash
    hash_already: int = 0  # lines that had a hash there
    without_address: Counter[str] = field(default_factory=Counter)  # lines, by reason
    dropped: int = 0  # of these
    addresses_anywhere: int = 0  # hashed outside the client field: in lines that were passed on, or anywhere
    unclear: int = 0  # zero-padded ones, replaced by a fixed text
    left: int = 0  # addresses outside the client field of hashed lines, which were left

    def add(self, other: "LogCounts") -> None:
        """Those of another file."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class LogRewriter(ABC):
    """Rewrites one log. ``block`` takes whole lines; only the last of a log may have no line end."""

    def __init__(self, hashes: AddressHashes, unreadable: Unreadable = Unreadable.PASS) -> None:
        self._hashes, self._unreadable = hashes, unreadable
        self._texts = AddressTexts(hashes)
        self._left = AddressTexts(hashes)
        self._counts = LogCounts()

    @property
    def counts(self) -> LogCounts:
        """So far."""
        self._counts.addresses_anywhere = self._texts.hashed
        self._counts.unclear = self._texts.unclear
        self._counts.left = self._left.hashed + self._left.unclear
        return self._counts

    def block(self, block: bytes) -> bytes:
        """The lines of *block*, rewritten. Raises ``LogLineRefused``."""
        lines: list[bytes | None] = list(block.split(b"\n"))
        whole = not lines[-1]
        if whole:
            lines.pop()
        self._rewrite(lines)
        self._counts.lines += len(lines)
        if self._counts.dropped:
            lines = [line for line in lines if line is not None]
        if whole and lines:
            lines.append(b"")
        new = b"\n".join(lines)  # type: ignore[arg-type]  # none is None any more
        self._count_left(new)
        return new

    def _count_left(self, block: bytes) -> None:
        """What looks like an address now is outside the client field, since that is a hash."""
        if not may_have_six(block):  # many lines at once
            self._left.replaced(block)
            return
        for line in block.split(b"\n"):
            self._left.replaced(line)

    @abstractmethod
    def _rewrite(self, lines: list[bytes | None]) -> None:
        """Each of *lines* in its place; None for one that is dropped."""

    def _without_address(self, line: bytes, reason: str, at: int) -> bytes | None:
        if self._unreadable is Unreadable.REFUSE:
            raise LogLineRefused(number=f"{self._counts.lines + at + 1:,}", reason=reason)
        self._counts.without_address[reason] += 1
        if self._unreadable is Unreadable.DROP:
            self._counts.dropped += 1
            return None
        return self._texts.replaced(line)


class AnywhereLog(LogRewriter):
    """Every address in every line."""

    def _rewrite(self, lines: list[bytes | None]) -> None:
        for at, line in enumerate(lines):
            if line is not None:
                before = self._texts.hashed
                lines[at] = self._texts.replaced(line)
                self._counts.hashed += self._texts.hashed > before

    def _count_left(self, block: bytes) -> None:
        """There is no client field."""


class FieldLog(LogRewriter):
    """The client address is a field between spaces. A country becomes one more field, at the end."""

    def __init__(
        self, hashes: AddressHashes, unreadable: Unreadable = Unreadable.PASS, *, number: int = 0
    ) -> None:
        super().__init__(hashes, unreadable)
        self._number = number  # of the field: 0 or 1

    def _rewrite(self, lines: list[bytes | None]) -> None:
        known, hashed = self._hashes.known, 0
        plain = not self._number and not self._hashes.has_countries
        for at, line in enumerate(lines):
            if line is None:
                continue
            if plain:  # nearly always; the loop that the speed depends on
                client, space, rest = line.partition(b" ")
                new = known.get(client)
                if new is not None:
                    lines[at] = new + space + rest
                    hashed += 1
                    continue
            lines[at] = self._line(line, at)
        self._counts.hashed += hashed

    def _line(self, line: bytes, at: int) -> bytes | None:
        start = line.find(b" ") + 1 if self._number else 0
        if self._number and not start:
            return self._without_address(line, Reason.EMPTY, at)
        end = _FIELD.match(line, start).end()  # type: ignore[union-attr]  # it matches anything
        client = line[start:end]
        new = self._hashes.hash_of(client)
        if isinstance(new, bytes):
            self._counts.hashed += 1
            return line[:start] + new + self._with_country(client, line[end:])
        if _HASH.fullmatch(client):
            self._counts.hash_already += 1
            return line
        return self._without_address(line, new, at)

    def _with_country(self, client: bytes, rest: bytes) -> bytes:
        if not self._hashes.has_countries:
            return rest
        country = self._hashes.country_of(client)
        body = rest.removesuffix(b"\r")
        shown = NO_COUNTRY if country is None else b'"' + country + b'"'
        return body + b" " + shown + rest[len(body) :]


class JsonLog(LogRewriter):
    """One JSON object a line; the client address is a member, or several are."""

    def __init__(
        self, hashes: AddressHashes, unreadable: Unreadable = Unreadable.PASS, *, members: Sequence[str]
    ) -> None:
        super().__init__(hashes, unreadable)
        self._members = members

    def _rewrite(self, lines: list[bytes | None]) -> None:
        for at, line in enumerate(lines):
            if line is not None:
                lines[at] = self._line(line, at)

    def _line(self, line: bytes, at: int) -> bytes | None:
        shown = line.decode("latin-1")
        try:
            spans = member_spans(shown, self._members)
        except NotJson:
            return self._without_address(line, "no JSON object" if line.strip() else Reason.EMPTY, at)
        parts: list[str] = []
        end, hashed, already, country = 0, 0, 0, None
        reasons: list[str] = []
        for start, stop, value in spans:
            new = self._value(value)
            if isinstance(new, bytes):
                parts += [shown[end:start], json.dumps(new.decode("ascii"))]
                end = stop
                hashed += 1
                country = country or (self._hashes.country_of(str(value).encode()) if value else None)
            elif new is None:
                already += 1
            else:
                reasons.append(new)
        line = ("".join(parts) + shown[end:]).encode("latin-1")
        nothing = [reason for reason in reasons if reason in (Reason.EMPTY, Reason.UNKNOWN)]
        if len(reasons) > len(nothing) or not hashed + already:
            others = [reason for reason in reasons if reason not in nothing]
            return self._without_address(line, (others + nothing + ["no such member"])[0], at)
        if not hashed:
            self._counts.hash_already += 1
            return line
        self._counts.hashed += 1
        return self._with_country(line, country) if self._hashes.has_countries else line

    def _value(self, value: str | None) -> bytes | str | None:
        """The hash; None where one stands there already; or the reason why there is none."""
        if value is None:
            return "no string"
        text = value.encode("utf-8", "surrogatepass")
        new = self._hashes.hash_of(text)
        return None if _HASH.fullmatch(text) else new

    def _with_country(self, line: bytes, country: bytes | None) -> bytes:
        if member_spans(line.decode("latin-1"), ["country"]):
            return line  # the application's own
        end = line.rindex(b"}")
        return line[:end] + b',"country":' + (b'"%b"' % country if country else b"null") + line[end:]


def rewriter(
    form: LogFormat, hashes: AddressHashes, unreadable: Unreadable, members: Sequence[str] = ()
) -> LogRewriter:
    """The one for a log of that format."""
    if form is LogFormat.ANYWHERE:
        return AnywhereLog(hashes, unreadable)
    if form is LogFormat.JSON:
        return JsonLog(hashes, unreadable, members=members)
    return FieldLog(hashes, unreadable, number=FIELDS[form])
