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
from backfill.ledger.counts import Count

canonical = lru_cache(1 << 16)(canonicalise)  # the same texts come again in every range of blocks

HASH_RIGHT, HASH_WRONG, HASH_MISSING = "right", "wrong", "missing"
HASH_COUNTS = {
    HASH_RIGHT: Count.HASH_RIGHT,
    HASH_WRONG: Count.HASH_WRONG,
    HASH_MISSING: Count.HASH_MISSING,
}


class Suspect(NamedTuple):
    """Rows that are not plainly right, alike in all that matters."""

    raw: str | None  # its first characters: one more than an address may have; None: it cannot be decoded
    linked: str | None  # the linked address, with its mask where it is a network; None: not linked
    hash: str  # of the linked address
    lacks_geo: bool  # the event could hold a geoip_info and has none
    no_place: bool  # its JSON is no object: there is no place for one
    dangling: bool = False  # it has a link, and no address stands there


def state(raw: Address | Reason, linked: str | None, sentinel: str) -> Count:
    """Which of ``CLASSES`` a row is in."""
    if linked is None:
        return Count.QUARANTINED if isinstance(raw, Reason) else Count.UNLINKED
    if (
        not isinstance(raw, Reason) and str(raw) == linked
    ):  # nearly always; and parsing costs more than printing
        return Count.RIGHT
    address = canonical(linked)
    if isinstance(raw, Reason):
        return Count.SETTLED if str(address) == sentinel else Count.OWN_LINK_KEPT
    if raw == address:
        return Count.RIGHT
    return Count.LINKED_TO_SENTINEL if str(address) == sentinel else Count.WRONG


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


def spelled(raw: str | None) -> Address | Reason:
    """The address that a row's text spells, or the reason why it spells none; *raw*: None cannot be decoded."""
    return Reason.UNDECODABLE if raw is None else canonical(raw)


def classify(suspect: Suspect, sentinel: str, resolves: Callable[[str], bool]) -> list[Count]:
    """All counts that such a row adds to. *resolves*: whether a text's address has a place."""
    text = suspect.raw
    if text is not None and text == suspect.linked:  # its own canonical form, since host() gave it
        found, spells = [Count.RIGHT], True
    else:
        raw = spelled(text)
        found, spells = [state(raw, suspect.linked, sentinel)], not isinstance(raw, Reason)
        if suspect.dangling:
            found = [Count.DANGLING]
    if spells and text is not None and (suspect.lacks_geo or suspect.no_place) and resolves(text):
        found += [Count.GEO_MISSING] * suspect.lacks_geo + [Count.GEO_HAS_NO_PLACE] * suspect.no_place
    if suspect.linked is not None and suspect.hash != HASH_RIGHT:
        found.append(HASH_COUNTS[suspect.hash])
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
