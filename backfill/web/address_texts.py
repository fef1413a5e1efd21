"""Addresses anywhere in a line: which texts are taken for one, and what they become.

docs/logs.md states the boundaries; `tests/unit/test_address_texts.py` holds the examples. The text of an
address becomes its hash; what stands around it (a port, brackets, a zone id, ``/24``) stays.
"""

import re
from collections.abc import Iterator

from backfill.addresses import Reason
from backfill.web.address_hashes import AddressHashes

# In the place of a text that is an address to some readers and another to others: ``010.1.2.3``.
UNCLEAR = b"unclear-address"

_HEX = rb"[0-9A-Fa-f]"
_COLON = rb"(?::|%3[Aa])"
# How programs write what stands before an address: as in a URL, by nginx, in JSON and C, in colour.
_ESCAPE = (
    rb"(?:%(?!3[Aa])H{2}|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[abefnrtv]|\x1b\[[0-9;]*+[A-Za-z])".replace(
        b"H", _HEX
    )
)
_ESCAPED = re.compile(_ESCAPE.replace(b"(?!3[Aa])", b"") + rb"\Z")

# Not one that ends in ".0.0" after a product ("Chrome/120.0.0.0"): it is the version of a browser.
_PRODUCT = b"".join(
    rb"(?<![A-Za-z]/[0-9]{%d}\.[0-9]{%d}\.0\.0)" % (first, second)
    for first in (1, 2, 3)
    for second in (1, 2, 3)
)
# The last three of four numbers: a pattern that begins with a dot is found five times as fast.
_QUAD = re.compile(
    rb"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9A-Za-z]|\.[0-9])(?:(?<!\.0\.0)|" + _PRODUCT + rb")"
)
_DIGITS = re.compile(rb"[0-9]+\Z")
_GROUPS = re.compile(
    rb"(?:(%b)|(?<!%b))(%b*+(?:%b%b*+){2,}+)((?:\.[0-9]{1,3}){3}(?![0-9A-Za-z]|\.[0-9]))?"
    % (_ESCAPE, _HEX, _HEX, _COLON, _HEX)
)
# Zeros left out, or eight groups, of which the last two may be dotted.
_MAY_BE_SIX = re.compile(rb":(?::|(?:[0-9A-Fa-f]{1,4}:){5})")
_ENCODED_COLON = re.compile(rb"%3[Aa]")
_WORD = re.compile(rb"[0-9A-Za-z]")
_HARDWARE = re.compile(rb"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){7}")  # eight bytes (EUI-64), no address
_LONGEST = 45  # characters of an IPv6 address
_MOST_BEFORE = 24  # characters that are looked at before the first dot


class AddressTexts:
    """Finds and replaces addresses in text; counts what it did."""

    def __init__(self, hashes: AddressHashes) -> None:
        self._hashes = hashes
        self.hashed = 0
        self.unclear = 0

    def replaced(self, text: bytes) -> bytes:
        """*text* with a hash in the place of every address."""
        parts, end = [], 0
        for start, stop, new in self._found(text):
            parts += [text[end:start], new]
            end = stop
        return b"".join([*parts, text[end:]]) if parts else text

    def _found(self, text: bytes) -> Iterator[tuple[int, int, bytes]]:
        six = list(self._six(text)) if may_have_six(text) else []
        if not six:
            yield from self._four(text, [])
            return
        yield from sorted([*six, *self._four(text, [(start, stop) for start, stop, _ in six])])

    def _four(self, text: bytes, taken: list[tuple[int, int]]) -> Iterator[tuple[int, int, bytes]]:
        for start, stop in quads(text):
            if any(first < stop and start < last for first, last in taken):
                continue  # the dotted end of IPv6 is no IPv4 address of its own, and is counted once
            new = self._new(text[start:stop])
            if new is not None:
                yield start, stop, new

    def _six(self, text: bytes) -> Iterator[tuple[int, int, bytes]]:
        for match in _GROUPS.finditer(text):
            found = self._six_in(text, match)
            if found is not None:
                yield found

    def _six_in(self, text: bytes, match: re.Match[bytes]) -> tuple[int, int, bytes] | None:
        """The address among groups: all of them, or without words before and after that colons join to it."""
        (start, stop), tail = match.span(2), match.end(3)
        colons = [(start, start)] + [
            (start + colon.start(), start + colon.end()) for colon in re.finditer(_COLON, match[2])
        ]
        within_word = match[1] is None and start > 0 and _WORD.match(text, start - 1) is not None
        for lead in range(1 if within_word else 0, min(3, len(colons))):
            begin = colons[lead][1]
            ends = [tail] if tail > 0 else []
            if tail > 0 or not _WORD.match(text, stop):
                ends.append(stop)
            ends.append(colons[-1][0])
            for end in ends:
                if end <= begin or end - begin > _LONGEST + 2 * text.count(b"%3", begin, end):
                    continue
                plain = _ENCODED_COLON.sub(b":", text[begin:end])
                if plain.count(b":") < 2 or plain == b"::" or _HARDWARE.fullmatch(plain):
                    continue
                new = self._new(plain)
                if new is not None:
                    return begin, end, new
        return None

    def _new(self, plain: bytes) -> bytes | None:
        new = self._hashes.hash_of(plain)
        if isinstance(new, bytes):
            self.hashed += 1
            return new
        if new is Reason.ZERO_PADDED and all(int(part) < 256 for part in plain.rsplit(b":")[-1].split(b".")):
            self.unclear += 1
            return UNCLEAR
        return None


def quads(text: bytes) -> Iterator[tuple[int, int]]:
    """Where four numbers with dots between stand that no letter, number or fifth part joins.

    Digits before may be the end of an escape: ``\\x221.2.3.4`` is a quotation mark and an address.
    """
    for match in _QUAD.finditer(text):
        first = match.start()
        near = text[max(first - _MOST_BEFORE, 0) : first]
        digits = _DIGITS.search(near)
        if digits is None:
            continue
        length, before = len(near) - digits.start(), near[: digits.start()]
        last = before[-1:]
        if length <= 3 and not (last.isalnum() or last in (b"%", b"\\", b".")):  # nearly always
            yield first - length, match.end()
            continue
        for part in (3, 2, 1):
            if part <= length and _ESCAPED.search(near[: len(near) - part]):
                yield first - part, match.end()
                break
        else:
            if length <= 3 and not last.isalnum() and not (last == b"." and before[-2:-1].isdigit()):
                yield first - length, match.end()


def may_have_six(text: bytes) -> bool:
    """Whether an IPv6 address can be in *text*: told at a tenth of the price of looking for one."""
    return _MAY_BE_SIX.search(text) is not None or (
        (b"%3A" in text or b"%3a" in text) and len(_ENCODED_COLON.findall(text)) > 1
    )
