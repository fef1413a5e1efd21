"""Pure: text as found in a column becomes one canonical address, or a reason why it is none.

docs/addresses.md holds the table of what each odd spelling becomes; a test reads it.
"""

import re
from bisect import bisect_right
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET, inet_pton
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

MAX_LENGTH = 64  # characters; the longest honest spelling, "[IPv6%zone]:port", stays below it


class Reason(StrEnum):
    """Why a text is not an address; stored in the quarantine, so names are stable."""

    EMPTY = "empty"  # nothing, or nothing but white space
    TOO_LONG = "too-long"  # over MAX_LENGTH characters, counted before trimming; not read further
    CONTROL_CHARACTERS = "control-characters"  # NUL, escape, … inside: not something a person or proxy meant
    UNKNOWN = "unknown"  # a word for "no address", such as "unknown", "-" or "null"
    FORWARDED_LIST = "forwarded-list"  # "client, proxy": which of the two was meant is not ours to guess
    NETWORK = "network"  # "10.0.0.0/8" names many hosts
    ZERO_PADDED = "zero-padded"  # "010.1.2.3" is 10.1.2.3 to some readers and 8.1.2.3 to others
    HOST_NAME = "host-name"  # "localhost": what it resolved to at the time is not known
    NOT_AN_ADDRESS = "not-an-address"  # everything else
    # Bytes that the database's encoding leaves undefined: nobody can read it, so it never comes to ``canonicalise``.
    UNDECODABLE = "undecodable"


class Kind(StrEnum):
    """What sort of address it is; only a public one can have a place."""

    PUBLIC = "public"
    PRIVATE = "private"  # RFC 1918, carrier-grade NAT (RFC 6598), unique local IPv6 (RFC 4193)
    DOCUMENTATION = "documentation"  # RFC 5737, 3849, 9637; the application's sentinel is one
    RESERVED = "reserved"  # loopback, link-local, multicast, benchmarks, unassigned space


NO_ADDRESS = frozenset(
    {"unknown", "-", "--", "?", "*", "null", "(null)", "none", "nil", "n/a", "na", "undefined"}
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::([0-9]{1,5}))?")
_V4_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")
_ZONE = re.compile(r"[0-9A-Za-z._~-]+")  # what RFC 6874 lets a zone id consist of
_PREFIX = re.compile(r"[0-9]{1,3}|[0-9]{1,3}(?:\.[0-9]{1,3}){3}")  # a length, or a netmask
_SHORT_NETWORK = re.compile(r"[0-9]+(?:\.[0-9]+){0,2}")  # the "10" of "10/8", which PostgreSQL accepts
_PADDED = re.compile(r"(?:[0-9A-Fa-f:]*:)?(?=(?:[0-9]+\.){0,3}0[0-9])[0-9]+(?:\.[0-9]+){3}")
# The last label begins with a letter: "0x7f.1" and "1.2.3" are numbers to some resolvers, names to none.
_HOST_NAME = re.compile(r"(?:[a-z0-9_-]+\.)*[a-z][a-z0-9_-]*\.?(?::[0-9]{1,5})?")


def canonicalise(text: str) -> Address | Reason:
    """Return the address that *text* spells, or the reason why it spells none.

    Surrounding white space (whatever ``str.strip`` takes for it), upper case, brackets, a port
    after IPv4 or after brackets, an IPv6 zone id and a /32 (IPv4) or /128 (IPv6) suffix are
    removed; IPv4-mapped IPv6 becomes IPv4, as the live edge hashes the IPv4 text. Digits after the
    last colon of bare IPv6 are part of the address, never a port. Never raises, whatever the
    text; O(len(text)), and text over ``MAX_LENGTH`` characters is refused unread.
    """
    if len(text) > MAX_LENGTH:
        return Reason.TOO_LONG
    text = text.strip()
    address = _parse(text)  # nearly every text is a plain address
    if address is not None:
        return address
    if not text:
        return Reason.EMPTY
    if _CONTROL.search(text):
        return Reason.CONTROL_CHARACTERS
    if "," in text:
        return Reason.FORWARDED_LIST
    lowered = text.lower()
    if lowered in NO_ADDRESS:
        return Reason.UNKNOWN
    if _HOST_NAME.fullmatch(lowered):
        return Reason.HOST_NAME
    return _undecorated(text)


def canonical_text(address: Address) -> str:
    """The one spelling that is hashed: dotted IPv4, or lower-case IPv6 with its zeros compressed.

    *address* comes from ``canonicalise``: of a mapped address, which is not canonical, Python
    before 3.13 prints another text than later ones.
    """
    return str(address)


def network_text(address: Address, v4_bits: int, v6_bits: int) -> str:
    """*address* with all but that many leading bits zeroed, as the text of a host: without a mask.

    Of 6to4 (2002::/16) the second and third group are an IPv4 address (RFC 3056, section 2): as much of it is kept as
    of any other, or 48 bits would be the whole host.
    """
    kept = v4_bits if address.version == 4 else v6_bits
    if address.version == 6 and int(address) >> 112 == 0x2002:
        kept = min(kept, 16 + v4_bits)
    host_bits = address.max_prefixlen - kept
    return str(type(address)(int(address) >> host_bits << host_bits))


def classify(address: Address) -> Kind:
    """The kind of *address*, by the special-purpose registries of IANA as of 2025.

    Our own table instead of ``is_global``, whose answers differ between patch releases of Python.
    Teredo and 6to4 count as public: clients do come from there. They have no place: ``is_tunnelled``.
    """
    number = int(address)
    if address.version == 6 and number >> 125 != 1 and number >> 121 != 0xFC >> 1:
        return Kind.RESERVED  # outside 2000::/3, global unicast, only fc00::/7 is in use by hosts
    starts, ends, kinds = _RANGES[address.version]
    at = bisect_right(starts, number) - 1
    return kinds[at] if at >= 0 and number <= ends[at] else Kind.PUBLIC


def is_tunnelled(address: Address) -> bool:
    """Whether *address* is one of a tunnel: Teredo (2001::/32) or 6to4 (2002::/16).

    A geo database answers with the place of the IPv4 address inside it: of a Teredo server, of a router. NAT64
    (64:ff9b::/96 and its local prefix) lies outside global unicast and is ``RESERVED``.
    """
    number = int(address)
    return address.version == 6 and (number >> 112 == 0x2002 or number >> 96 == 0x2001_0000)


def _parse(text: str) -> Address | None:
    """A bare address without decoration, mapped ones as IPv4; None when *text* is anything else."""
    if ":" not in text:
        try:  # as strict as IPv4Address(text), and a quarter of its 1.5 microseconds
            return IPv4Address(inet_pton(AF_INET, text))
        except (OSError, ValueError):
            return None
    if "%" in text or "/" in text:
        return None
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return None
    return address.ipv4_mapped or address


def _undecorated(text: str) -> Address | Reason:
    """*text* without suffix, brackets, port and zone id; at most one of each, in that order."""
    host, slash, prefix = text.partition("/")
    port: str | None = None
    if bracketed := _BRACKETED.fullmatch(host):
        host, port = bracketed.groups()
    elif with_port := _V4_WITH_PORT.fullmatch(host):
        host, port = with_port.groups()
    if port is not None and (slash or int(port) > 65535):
        return Reason.NOT_AN_ADDRESS
    bare, percent, zone = host.partition("%")
    if percent and not (":" in bare and _ZONE.fullmatch(zone)):
        return Reason.NOT_AN_ADDRESS
    address = _parse(bare)
    if address is None:
        if slash and _SHORT_NETWORK.fullmatch(bare) and _PREFIX.fullmatch(prefix):
            return Reason.NETWORK
        return Reason.ZERO_PADDED if _PADDED.fullmatch(bare) else Reason.NOT_AN_ADDRESS
    # By the spelling, not by the result: ::ffff:1.2.3.4/32 is half the mapped space and more.
    whole = "128" if ":" in bare else "32"
    if slash and prefix != whole:
        return Reason.NETWORK if _PREFIX.fullmatch(prefix) else Reason.NOT_AN_ADDRESS
    return address


def _scheduler(table: dict[str, Kind]) -> tuple[list[int], list[int], list[Kind]]:
    """First numbers, last numbers and kinds of disjoint networks, in ascending order."""
    rows = []
    for text, kind in table.items():
        network = IPv6Network(text) if ":" in text else IPv4Network(text)
        rows.append((int(network.network_address), int(network.broadcast_address), kind))
    rows.sort()
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


_RANGES = {
    4: _scheduler(
        {
            "0.0.0.0/8": Kind.RESERVED,  # "this network"
            "10.0.0.0/8": Kind.PRIVATE,
            "100.64.0.0/10": Kind.PRIVATE,  # carrier-grade NAT
            "127.0.0.0/8": Kind.RESERVED,  # loopback
            "169.254.0.0/16": Kind.RESERVED,  # link-local
            "172.16.0.0/12": Kind.PRIVATE,
            "192.0.0.0/24": Kind.RESERVED,  # protocol assignments
            "192.0.2.0/24": Kind.DOCUMENTATION,
            "192.168.0.0/16": Kind.PRIVATE,
            "198.18.0.0/15": Kind.RESERVED,  # benchmarks
            "198.51.100.0/24": Kind.DOCUMENTATION,
            "203.0.113.0/24": Kind.DOCUMENTATION,
            "224.0.0.0/4": Kind.RESERVED,  # multicast
            "240.0.0.0/4": Kind.RESERVED,  # never assigned; broadcast
        }
    ),
    6: _scheduler(
        {
            "2001:2::/48": Kind.RESERVED,  # benchmarks
            "2001:10::/28": Kind.RESERVED,  # ORCHID: identifiers, not places
            "2001:20::/28": Kind.RESERVED,  # ORCHIDv2
            "2001:db8::/32": Kind.DOCUMENTATION,
            "3fff::/20": Kind.DOCUMENTATION,
            "fc00::/7": Kind.PRIVATE,  # unique local
        }
    ),
}
