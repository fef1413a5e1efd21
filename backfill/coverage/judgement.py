"""Pure: what a row's text and the address it is linked to make of the row.

Shared with the writer are the canonicaliser and the hash, nothing else: neither its address map nor
its SQL. The server picks out rows that are not plainly right; what they are is said here.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET6, inet_pton
from typing import NamedTuple

from backfill.addresses import Address, Reason, canonicalise

# Every row with a raw value is exactly one of these.
RIGHT = "right"
SETTLED = "settled"  # a text that is no address, linked to the sentinel
UNJUDGED = "unjudged"  # the application made something of a text that we would not guess at: its link stands
MISFILED = "misfiled"  # an address, linked to the sentinel
WRONG = "wrong"  # an address, linked to another one
UNLINKED = "unlinked"
DANGLING = "dangling"  # linked to a row that the address table lacks, or that has no address
REJECTED = "rejected"  # a text that is no address, not linked: quarantine
STATES = (RIGHT, SETTLED, UNJUDGED, WRONG, MISFILED, DANGLING, UNLINKED, REJECTED)

canonical = lru_cache(1 << 16)(canonicalise)  # the same texts come again in every range of blocks

HASH_RIGHT, HASH_WRONG, HASH_MISSING = "right", "wrong", "missing"


class Suspect(NamedTuple):
    """Rows that are not plainly right, alike in all that matters."""

    raw: str | None  # its first characters: one more than an address may have; None: it cannot be decoded
    linked: str | None  # the linked address, with its mask where it is a network; None: not linked
    hash: str  # of the linked address
    lacks_geo: bool  # the event could hold a geoip_info and has none
    no_place: bool  # its JSON is no object: there is no place for one
    dangling: bool = False  # it has a link, and no address stands there


def state(raw: Address | Reason, linked: str | None, sentinel: str) -> str:
    """Which of ``STATES`` a row is in."""
    if linked is None:
        return REJECTED if isinstance(raw, Reason) else UNLINKED
    if (
        not isinstance(raw, Reason) and str(raw) == linked
    ):  # nearly always; and parsing costs more than printing
        return RIGHT
    address = canonical(linked)
    if isinstance(raw, Reason):
        return SETTLED if str(address) == sentinel else UNJUDGED
    if raw == address:
        return RIGHT
    return MISFILED if str(address) == sentinel else WRONG


def plain_states(hosts: Sequence[str], hashes: Sequence[str], hasher: Callable[[str], str]) -> bool:
    """Whether each of those full-length addresses is spelled canonically and each hash is the formula's.

    All of them are hashed here; *False* says that at least one has to be looked at (``hash_state``).
    """
    if list(map(hasher, hosts)) != list(hashes):
        return False
    return all(
        map(_is_canonical_v6, (host for host in hosts if ":" in host))
    )  # dotted, as host() writes it, is


def _is_canonical_v6(host: str) -> bool:
    """Parsed by the C library, which takes half the time, and printed anew. IPv4 in IPv6 begins with ``::``."""
    return not host.startswith("::") and str(IPv6Address(inet_pton(AF_INET6, host))) == host


def judge(suspect: Suspect, sentinel: str, resolves: Callable[[str], bool]) -> list[str]:
    """The names of all counts that such a row adds to. *resolves*: whether a text's address has a place."""
    if (
        suspect.raw is not None and suspect.raw == suspect.linked
    ):  # its own canonical form, since host() gave it
        found, spells = [RIGHT], True
    else:
        raw = Reason.UNDECODABLE if suspect.raw is None else canonical(suspect.raw)
        found, spells = [state(raw, suspect.linked, sentinel)], not isinstance(raw, Reason)
        if suspect.dangling:
            found = [DANGLING]
        elif isinstance(raw, Reason) and suspect.linked is None:
            found.append(f"reason {raw.value}")
    if (
        spells
        and suspect.raw is not None
        and (suspect.lacks_geo or suspect.no_place)
        and resolves(suspect.raw)
    ):
        found += ["geo missing"] * suspect.lacks_geo + ["geo has no place"] * suspect.no_place
    if suspect.linked is not None and suspect.hash != HASH_RIGHT:
        found.append(f"hash {suspect.hash}")
    return found


def hash_state(
    host: str, masklen: int, live: str | None, hasher: Callable[[str], str]
) -> tuple[str, bool, str]:
    """What a stored hash is worth, whether the row spells its address canonically, and that address."""
    if masklen == 32 and ":" not in host:  # dotted, as PostgreSQL writes it, is canonical: half the time
        if live is None:
            return HASH_MISSING, True, host
        return HASH_RIGHT if live == hasher(host) else HASH_WRONG, True, host
    if masklen != (128 if ":" in host else 32):  # a network is what it is, and no spelling of its first host
        text = f"{host}/{masklen}"
        if live is None:
            return HASH_MISSING, True, text
        return HASH_RIGHT if live == hasher(text) else HASH_WRONG, True, text
    address = canonicalise(host)
    if not isinstance(address, IPv4Address | IPv6Address):
        raise TypeError("host() gave no address")  # inet holds nothing else
    canonical = address.version == (6 if ":" in host else 4)
    text = str(address)
    if live is None:
        return HASH_MISSING, canonical, text
    rightful = live == hasher(text)
    if not rightful and not canonical:  # the edge may have seen, and hashed, this very spelling
        rightful = live == hasher(host)
    return HASH_RIGHT if rightful else HASH_WRONG, canonical, text
