"""Pure: what in a text looks like an address, and how sure one can be that it is one.

Two stages. The server runs ``PREFILTER`` over everything: wide enough to miss no spelling, and free
of the bare colon pattern that times such as 10:11:12 satisfy. What passes comes here and is judged.
"""

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from backfill.addresses import Kind, classify
from backfill.hashing.pseudonym import UNIQUE_LOCAL

# A POSIX pattern that both PostgreSQL and Python read. Four dotted numbers; a double colon beside a
# hex digit; seven times colon and hex. Nothing shorter is an address.
PREFILTER = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|::[0-9A-Fa-f]|[0-9A-Fa-f]::|(:[0-9A-Fa-f]{1,4}){7}"

BIG = 32  # of a random octet, seven in eight are as large; of a release number, hardly any
OCTETS = 4


class Sureness(StrEnum):
    """How sure it is that a text is an address; names are stored."""

    SURE = "sure"
    LIKELY = "likely"  # an address by its form; a release number could look the same
    UNLIKELY = "unlikely"  # its form or what stands beside it speaks for something else


class Looks(StrEnum):
    """What it looks like."""

    ADDRESS = "address"
    NETWORK = "network"
    VERSION = "version"
    HARDWARE = "hardware address"  # eight pairs of hex digits: EUI-64
    NAME = "name"  # Acme::Cafe
    PSEUDONYM = "pseudonym by its prefix"  # whether it is one, its tag tells: to whoever has the salt


@dataclass(frozen=True)
class Hit:
    """One place in a text. The text itself is not kept."""

    looks: Looks
    sureness: Sureness
    public: bool


_V4 = re.compile(r"(?<![0-9.])([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9])(?!\.[0-9])")
_V6 = re.compile(r"(?<![0-9A-Za-z_:.])(?=[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:)[0-9A-Fa-f:]+(?:\.[0-9]{1,3}){0,3}")
# Beside a number: "v1.2.3.4", "==1.2.3.4", "name-1.2.3.4", "1.2.3.4rc1", "1.2.3.4-py3", "version 1.2.3.4".
_BEFORE_VERSION = re.compile(r"(?:[A-Za-z_~^+]|[<>=!~]=\s*|[A-Za-z0-9]-|\b(?:version|release|ver|rev)\.?:?\s*)$", re.IGNORECASE)  # fmt: skip
_AFTER_VERSION = re.compile(
    r"(?:[A-Za-z_+~]|\.(?:tar|zip|whl|egg|gz|bz2|xz|exe|msi|rpm|deb|dev|post|[a-z]+\d)|-[A-Za-z0-9])"
)
_ZONE_OR_PORT = re.compile(r"%[0-9A-Za-z]")
_SUFFIX = re.compile(r"/([0-9]{1,3})(?![0-9])")
_PAIRS = re.compile(r"(?:[0-9A-Fa-f]{2}:){7}[0-9A-Fa-f]{2}")


def hits(text: str, prefixes: Set[int] = frozenset()) -> Iterator[Hit]:
    """Every place of *text* that may be an address, as they stand. *prefixes*: of pseudonyms, the byte after ``fd``."""
    for match in _V4.finditer(text):
        # "::ffff:1.2.3.4" is read as a whole below.
        if match.start() and text[match.start() - 1] == ":" and _mapped(text, match.start()):
            continue
        hit = _dotted(text, match)
        if hit is not None:
            yield hit
    for match in _V6.finditer(text):
        hit = _coloned(text, match, prefixes)
        if hit is not None:
            yield hit


def _mapped(text: str, at: int) -> bool:
    return text[max(at - 7, 0) : at].lower().endswith(("::ffff:", "::", "0:ffff:", "00:ffff:"[-7:]))


def _dotted(text: str, match: re.Match[str]) -> Hit | None:
    octets = [int(part) for part in match.groups()]
    if max(octets) > 255:
        return None
    address = IPv4Address(".".join(map(str, octets)))
    public = classify(address) is Kind.PUBLIC
    before, after = text[max(match.start() - 10, 0) : match.start()], text[match.end() : match.end() + 6]
    big = sum(octet >= BIG for octet in octets) >= OCTETS // 2
    if _BEFORE_VERSION.search(before) or _AFTER_VERSION.match(after):
        return Hit(Looks.VERSION, Sureness.LIKELY if big else Sureness.UNLIKELY, public)
    suffix = _SUFFIX.match(after)
    looks = Looks.NETWORK if suffix and int(suffix[1]) < 32 else Looks.ADDRESS
    return Hit(looks, Sureness.SURE if big else Sureness.LIKELY, public)


def _coloned(text: str, match: re.Match[str], prefixes: Set[int]) -> Hit | None:
    found, after = match[0], text[match.end() : match.end() + 2]
    if _PAIRS.fullmatch(found):
        return Hit(Looks.HARDWARE, Sureness.UNLIKELY, False)
    if after[:1].isalnum() or after[:1] == "_":  # "Dead::Beefs": the run goes on as a word
        return None
    address = _address(found)
    if address is None:
        return None
    if address.packed[0] == UNIQUE_LOCAL and address.packed[1] in prefixes:
        return Hit(Looks.PSEUDONYM, Sureness.UNLIKELY, False)
    mapped = address.ipv4_mapped
    kind = classify(mapped or address)
    if mapped is None and kind is Kind.RESERVED and not found.lower().startswith("fe80:"):
        return Hit(Looks.NAME, Sureness.UNLIKELY, False)
    suffix = _SUFFIX.match(after + text[match.end() + 2 : match.end() + 5])
    looks = Looks.NETWORK if suffix and int(suffix[1]) < 128 else Looks.ADDRESS
    groups = sum(bool(group) for group in found.split(":"))
    sure = mapped is not None or groups > 2 or _ZONE_OR_PORT.match(after) is not None
    return Hit(looks, Sureness.SURE if sure else Sureness.LIKELY, kind is Kind.PUBLIC)


def _address(text: str) -> IPv6Address | None:
    """The longest beginning that is an address: a port or a sentence's colon may follow it."""
    for end in (len(text), len(text.rstrip(":."))):
        try:
            return IPv6Address(text[:end])
        except AddressValueError:
            continue
    return None
