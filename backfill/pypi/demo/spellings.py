"""Pure: the ways in which production columns spell an address, and what they hold instead of one."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from random import Random

LONG_TEXT_BYTES = 10_240  # the longest text seen in a real column; far over what an index entry may hold


@dataclass(frozen=True)
class Odd:
    """A spelling that still means one address; *write* turns canonical text into it."""

    kind: str
    version: int  # 4 or 6: the family it is a spelling of
    write: Callable[[str], str]
    as_inet: bool = False  # PostgreSQL's inet reads it as the same address: the live application linked it


@dataclass(frozen=True)
class Malformed:
    """A text that means no single address; *write* makes one from an IPv4 and an IPv6 address."""

    kind: str
    write: Callable[[Random, str, str], str]


ODD = (
    Odd("surrounding space", 4, lambda address: f" {address}  "),
    Odd("upper case", 6, str.upper, as_inet=True),
    Odd("zero-padded IPv6", 6, lambda address: IPv6Address(address).exploded, as_inet=True),
    Odd("IPv4-mapped", 4, lambda address: f"::ffff:{address}"),
    Odd("IPv4-mapped, hexadecimal", 4, lambda address: _mapped_hexadecimal(IPv4Address(address))),
    Odd("port", 4, lambda address: f"{address}:5678"),
    Odd("brackets and port", 6, lambda address: f"[{address}]:443"),
    Odd("/32 suffix", 4, lambda address: f"{address}/32", as_inet=True),
    Odd("/128 suffix", 6, lambda address: f"{address}/128", as_inet=True),
    Odd("zone id", 6, lambda address: f"{address}%eth0"),
)

MALFORMED = (
    Malformed("forwarded-for list", lambda rng, v4, v6: f"{v4}, {rng.choice((v6, '10.0.0.7'))}"),
    Malformed("network", lambda rng, v4, v6: rng.choice(("10.0.0.0/8", _around(v4), f"{v6}/64"))),
    Malformed("zero-padded IPv4", lambda rng, v4, v6: _padded(rng)),
    Malformed("unknown", lambda rng, v4, v6: "unknown"),
    Malformed("dash", lambda rng, v4, v6: "-"),
    Malformed("localhost", lambda rng, v4, v6: "localhost"),
    Malformed("host name", lambda rng, v4, v6: f"proxy-{rng.randrange(1, 100)}.example.net"),
    Malformed("empty", lambda rng, v4, v6: ""),
    Malformed("control characters", lambda rng, v4, v6: f"\x1b[31m{v4}\x07\r\n\x7f"),
)


def long_text(v4: str, v6: str) -> str:
    """A forwarded-for header gone mad: 10 kB."""
    return (f"{v4}, {v6}, unknown, " * LONG_TEXT_BYTES)[:LONG_TEXT_BYTES]


def _around(v4: str) -> str:
    """The /24 in which the address lies."""
    return f"{v4.rpartition('.')[0]}.0/24"


def _padded(rng: Random) -> str:
    """``010.001.002.009``: octal or decimal is not ours to guess."""
    return ".".join(f"{octet:03d}" for octet in (10, *(rng.randrange(64) for _ in range(3))))


def _mapped_hexadecimal(v4: IPv4Address) -> str:
    """``::ffff:102:304``, as Python before 3.13 prints it."""
    high, low = divmod(int(v4), 1 << 16)
    return f"::ffff:{high:x}:{low:x}"
