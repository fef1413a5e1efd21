"""Whose request is it: the one decision behind both kinds of middleware, on plain values."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from backfill.addresses import Address, Reason, canonical_text, canonicalise
from backfill.errors import SettingInvalid
from backfill.web.edge import Edge
from backfill.web.event import Event
from backfill.web.pseudonymizer import Pseudonymizer, unsalted

LONGEST_PLACE = 200  # characters of a value; the longest name of a city has 168
_HASH = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Headers = Callable[[str], Sequence[str]]  # name → its values, in order, as the server decoded them (Latin-1)


@dataclass(frozen=True, slots=True)
class Client:
    """What a request's client is known by. ``str`` is the hash, or "-", for a log."""

    hashes: tuple[str, ...] = ()  # one a key id, the current one first: a ban may be stored under any of them
    place: dict[str, str] = field(default_factory=dict)
    by_edge: bool = False  # whether the edge vouched for it
    address: str | None = field(
        default=None, repr=False
    )  # canonical; only where the middleware was asked for it

    @property
    def hash(self) -> str | None:
        """The hash to store; None where no address is known."""
        return self.hashes[0] if self.hashes else None

    def __str__(self) -> str:
        return self.hash or "-"


@dataclass(frozen=True)
class Decision:
    """How a client is told, of a request's headers and peer."""

    pseudonymizer: Pseudonymizer
    edge: Edge | None = None
    proxies: int = 0
    keep_address: bool = False

    def __post_init__(self) -> None:
        """Raises ``SettingInvalid``."""
        if not isinstance(self.proxies, int) or isinstance(self.proxies, bool) or self.proxies < 0:
            raise SettingInvalid(setting="proxies", problem="it is the number of trusted proxies, 0 or more")

    def client(self, headers: Headers, peer: str | None, count: Callable[[Event], None]) -> Client:
        """The client of one request; *peer* is who connected to the server."""
        if self.edge is not None and (tokens := headers(self.edge.token_header)):
            if self.edge.proves(",".join(tokens)):
                count(Event.EDGE)
                return self._by_edge(self.edge, headers, count)
            count(Event.TOKEN_WRONG)
        if self.proxies:
            entry = forwarded(headers("X-Forwarded-For"), self.proxies)
            if entry is None:
                count(Event.FORWARDED_SHORT)
                return Client()
        else:
            entry = peer
        address = _address(entry, count)
        return Client() if address is None else self._client(address, {})

    def _by_edge(self, edge: Edge, headers: Headers, count: Callable[[Event], None]) -> Client:
        place = _place(edge.place_headers, headers, count)
        given: str | None = None
        if edge.hash_header is not None:
            given = ",".join(headers(edge.hash_header)).strip()
            if not given:
                count(Event.HASH_MISSING)
            elif not _HASH.fullmatch(given):
                count(Event.HASH_MALFORMED)
                given = None
        sent = None if edge.address_header is None else headers(edge.address_header)
        if not sent and given:
            count(Event.HASH_UNCHECKED)
            return Client((given,), place, by_edge=True)
        address = _address(",".join(sent or ()), count)
        if address is None:  # a hash beside it would be the hash of junk
            return Client((), place, by_edge=True)
        client = self._client(address, place, by_edge=True)
        if given and given != client.hash:
            count(
                Event.HASH_OLDER_KEY
                if given in client.hashes
                else Event.HASH_UNSALTED
                if given == unsalted(address)
                else Event.HASH_MISMATCH
            )
        return client

    def _client(self, address: Address, place: dict[str, str], *, by_edge: bool = False) -> Client:
        hashes = tuple(self.pseudonymizer.hashes_of(address).values())
        return Client(hashes, place, by_edge, canonical_text(address) if self.keep_address else None)


def forwarded(values: Sequence[str], proxies: int) -> str | None:
    """The entry that the outermost of *proxies* trusted proxies wrote: the n-th from the right.

    Never one further left, which the client may have written, and none is skipped, however empty: a client could
    write the one that would count instead. None where there are fewer.
    """
    entries = ",".join(values).rsplit(",", proxies)[-proxies:]
    return entries[0] if values and len(entries) == proxies else None


def _address(text: str | None, count: Callable[[Event], None]) -> Address | None:
    found = canonicalise(text or "")
    if not isinstance(found, Reason):
        return found
    listed = found is Reason.FORWARDED_LIST or (found is Reason.TOO_LONG and "," in (text or ""))
    count(
        Event.ADDRESS_MISSING
        if found is Reason.EMPTY
        else Event.ADDRESS_LIST
        if listed
        else Event.ADDRESS_UNREADABLE
    )
    return None


def _place(names: Mapping[str, str], headers: Headers, count: Callable[[Event], None]) -> dict[str, str]:
    place = {}
    for key, name in names.items():
        values = headers(name)
        if not values:
            continue
        value = _decoded(values[0]).strip()
        if len(values) > 1 or len(value) > LONGEST_PLACE or _CONTROL.search(value):
            count(Event.PLACE_MALFORMED)
        elif value not in ("", "?"):  # the edge's word for a city that it does not know
            place[key] = value
    return place


def _decoded(value: str) -> str:
    """A header as the edge meant it: UTF-8 where its bytes are, else Latin-1."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value
