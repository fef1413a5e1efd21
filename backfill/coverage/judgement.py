"""Pure: what a row's text and the address it is linked to make of the row.

Shared with the writer are the canonicaliser and the hash, nothing else: neither its address map nor
its SQL. The server picks out rows that are not plainly right; what they are is said here.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from backfill.addresses import Address, Reason, canonicalise

# Every row with a raw value is exactly one of these.
RIGHT = "right"
SETTLED = "settled"  # a text that is no address, linked to the sentinel
UNJUDGED = "unjudged"  # the application made something of a text that we would not guess at: its link stands
MISFILED = "misfiled"  # an address, linked to the sentinel
WRONG = "wrong"  # an address, linked to another one
UNLINKED = "unlinked"
REJECTED = "rejected"  # a text that is no address, not linked: quarantine
STATES = (RIGHT, SETTLED, UNJUDGED, WRONG, MISFILED, UNLINKED, REJECTED)

HASH_RIGHT, HASH_WRONG, HASH_MISSING = "right", "wrong", "missing"


@dataclass(frozen=True)
class Suspect:
    """Rows that are not plainly right, alike in all that matters."""

    raw: str  # its first characters: one more than an address may have
    linked: str | None  # host() of the linked address; None: not linked
    hash: str  # of the linked address
    lacks_geo: bool  # the event could hold a geoip_info and has none
    no_place: bool  # its JSON is no object: there is no place for one


def state(raw: Address | Reason, linked: str | None, sentinel: str) -> str:
    """Which of ``STATES`` a row is in."""
    if linked is None:
        return REJECTED if isinstance(raw, Reason) else UNLINKED
    address = canonicalise(linked)
    if isinstance(raw, Reason):
        return SETTLED if str(address) == sentinel else UNJUDGED
    if raw == address:
        return RIGHT
    return MISFILED if str(address) == sentinel else WRONG


def judge(suspect: Suspect, sentinel: str, resolves: Callable[[Address], bool]) -> list[str]:
    """The names of all counts that such a row adds to."""
    raw = canonicalise(suspect.raw)
    found = [state(raw, suspect.linked, sentinel)]
    if isinstance(raw, Reason):
        if suspect.linked is None:
            found.append(f"reason {raw.value}")
    elif (suspect.lacks_geo or suspect.no_place) and resolves(raw):
        found += ["geo missing"] * suspect.lacks_geo + ["geo has no place"] * suspect.no_place
    if suspect.linked is not None and suspect.hash != HASH_RIGHT:
        found.append(f"hash {suspect.hash}")
    return found


def tally(
    suspects: list[tuple[Suspect, int]], sentinel: str, resolves: Callable[[Address], bool]
) -> Counter[str]:
    """Rows by the name of the count."""
    counts: Counter[str] = Counter()
    for suspect, number in suspects:
        for name in judge(suspect, sentinel, resolves):
            counts[name] += number
    return counts


def hash_state(
    host: str, masklen: int, live: str | None, hasher: Callable[[str], str]
) -> tuple[str, bool, str]:
    """What a stored hash is worth, whether the row spells its address canonically, and that address."""
    if masklen == 32 and ":" not in host:  # dotted, as PostgreSQL writes it, is canonical: half the time
        if live is None:
            return HASH_MISSING, True, host
        return HASH_RIGHT if live == hasher(host) else HASH_WRONG, True, host
    address = canonicalise(host)
    if not isinstance(address, IPv4Address | IPv6Address):
        raise TypeError("host() gave no address")  # inet holds nothing else
    full = masklen == (128 if ":" in host else 32)
    canonical = full and address.version == (6 if ":" in host else 4)
    text = str(address)
    if live is None:
        return HASH_MISSING, canonical, text
    rightful = live == hasher(text)
    if not rightful and not canonical:  # the edge may have seen, and hashed, this very spelling
        rightful = live == hasher(host if full else f"{host}/{masklen}")
    return HASH_RIGHT if rightful else HASH_WRONG, canonical, text
