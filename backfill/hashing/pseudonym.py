"""Pseudonyms: an address becomes another address, which only whoever has the salt can make or recognise.

``fd``, one byte that the ledger allots per key id, 80 bits that stand for the address, 32 bits that prove them:

    key  = HMAC-SHA256(salt, "backfill:pseudonym:1")
    body = the first 10 bytes of HMAC-SHA256(key, "address:" + canonical text)
    tag  = the first 4 bytes of HMAC-SHA256(key, "tag:" + body)

No stored hash is taken under that key, so neither says anything about the other. docs/hashing.md has the vectors.
"""

import hmac
from socket import AF_INET6, inet_ntop, inet_pton

UNIQUE_LOCAL = 0xFD  # RFC 4193: an address that no host of the internet has
KEY_LABEL = b"backfill:pseudonym:1"
BODY_BYTES = 10  # of a million addresses, two share one with a chance of 1 in 2**41
TAG_BYTES = 4  # what somebody else wrote passes for ours once in 2**32


class Pseudonyms:
    """Makes and recognises the pseudonyms of one key id. Like a ``Salt``, it shows and pickles nothing."""

    __slots__ = ("_key", "prefix")

    def __init__(self, salt: bytes, prefix: int) -> None:
        """*prefix*: the byte after ``fd``, 1 to 255. Called by ``Salt.pseudonyms``, which checks it."""
        self._key = hmac.digest(salt, KEY_LABEL, "sha256")
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"Pseudonyms({prefix_text(self.prefix)}…)"

    def __reduce__(self) -> str:
        raise TypeError("pseudonyms do not travel between processes: they hold a key")

    def pseudonym(self, canonical: str) -> str:
        """The pseudonym of an address in canonical form (``addresses.canonical_text``), as RFC 5952 and PostgreSQL print it."""
        body = hmac.digest(self._key, b"address:" + canonical.encode(), "sha256")[:BODY_BYTES]
        return inet_ntop(AF_INET6, bytes((UNIQUE_LOCAL, self.prefix)) + body + self._tag(body))

    def is_ours(self, text: str) -> bool:
        """Whether *text* spells, in whatever way, an address inside the prefix that has the right tag. Never raises."""
        try:
            packed = inet_pton(AF_INET6, text)
        except (OSError, ValueError):
            return False
        body, tag = packed[2:-TAG_BYTES], packed[-TAG_BYTES:]
        return (
            packed[0] == UNIQUE_LOCAL
            and packed[1] == self.prefix
            and hmac.compare_digest(self._tag(body), tag)
        )

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, b"tag:" + body, "sha256")[:TAG_BYTES]


def prefix_text(prefix: int) -> str:
    """What every canonical text with that *prefix* begins with, and no other: ``fd4a:``."""
    return f"{UNIQUE_LOCAL:02x}{prefix:02x}:"
