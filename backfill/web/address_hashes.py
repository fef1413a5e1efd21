"""Address texts of a log and their hashes: each text is computed once, and only so many are kept."""

from collections.abc import Callable
from typing import TypeAlias

from backfill.addresses import MAX_LENGTH, Address, Reason, canonical_text, canonicalise

MAX_KNOWN = (
    100_000  # texts; about 25 MB. A full cache starts again: a crawl of new addresses cannot fill the memory
)

Hash: TypeAlias = Callable[[str], str]  # canonical address text → 64 hex digits
Country: TypeAlias = Callable[[Address], str | None]  # two letters


class AddressHashes:
    """The hash of an address text, and its country where *country* is given; both as bytes."""

    def __init__(self, digest: Hash, country: Country | None = None) -> None:
        self.known: dict[bytes, bytes] = {}  # read directly by loops over lines
        self._countries: dict[bytes, bytes | None] = {}
        self._digest, self._country = digest, country

    @property
    def has_countries(self) -> bool:
        """Whether countries are looked up."""
        return self._country is not None

    def hash_of(self, text: bytes) -> bytes | Reason:
        """The hash of the address that *text* spells, or the reason why it spells none."""
        known = self.known.get(text)
        return self._computed(text) if known is None else known

    def country_of(self, text: bytes) -> bytes | None:
        """The country of a text that has a hash; None where nothing is known of it."""
        if text not in self._countries:
            self._computed(text)
        return self._countries.get(text)

    def _computed(self, text: bytes) -> bytes | Reason:
        if len(text) > MAX_LENGTH:  # a field may have megabytes
            return Reason.TOO_LONG
        if not text.isascii():
            return Reason.NOT_AN_ADDRESS
        address = canonicalise(text.decode("ascii"))
        if isinstance(address, Reason):
            return address
        hashed = self._digest(canonical_text(address)).encode("ascii")
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()
            self._countries.clear()
        self.known[text] = hashed
        if self._country is not None:
            found = self._country(address)
            plain = found is not None and len(found) == 2 and found.isascii() and found.isalpha()
            self._countries[text] = found.encode("ascii") if found is not None and plain else None
        return hashed
