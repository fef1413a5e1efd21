"""What the middleware counts."""

from enum import StrEnum


class Event(StrEnum):
    """Something that was met in a request; docs/web.md says what becomes of each. Names are stable."""

    EDGE = "edge"  # the token was right: address, hash and place are the edge's
    TOKEN_WRONG = "token-wrong"  # noqa: S105  # the request is treated as one without a token
    ADDRESS_MISSING = "address-missing"  # the edge sent none, or the server knows no peer
    ADDRESS_LIST = "address-list"  # the edge's header holds several: which of them was meant is not known
    ADDRESS_UNREADABLE = "address-unreadable"  # no address, and no list of them
    FORWARDED_SHORT = "forwarded-short"  # fewer entries than trusted proxies, or no X-Forwarded-For at all
    HASH_MISSING = "hash-missing"
    HASH_MALFORMED = "hash-malformed"  # not 64 lower-case hex digits
    HASH_UNSALTED = "hash-unsalted"  # the edge forgot the salt
    HASH_OLDER_KEY = "hash-older-key"  # right under a key id that is not the current one
    HASH_MISMATCH = "hash-mismatch"  # wrong under every key id
    HASH_UNCHECKED = "hash-unchecked"  # the edge sent no address to compare it with; taken as it is
    PLACE_MALFORMED = "place-malformed"  # a value that was left out
