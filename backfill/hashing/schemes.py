"""The hash schemes that a plan may name; a new one is one file and one line here."""

from backfill.hashing.hmac_sha256 import HMAC_SHA256
from backfill.hashing.scheme import HashScheme
from backfill.hashing.sha256 import SHA256_PREFIX, SHA256_SUFFIX, SHA256_UNSALTED

SCHEMES: list[HashScheme] = [  # in the order in which calibration lists them
    SHA256_SUFFIX,
    SHA256_PREFIX,
    SHA256_UNSALTED,
    HMAC_SHA256,
]


def scheme_names() -> list[str]:
    """What a plan may say."""
    return [scheme.name for scheme in SCHEMES]


def scheme_named(name: str) -> HashScheme:
    """The scheme of that *name*. Raises ``KeyError``; a plan has been asked before."""
    return {scheme.name: scheme for scheme in SCHEMES}[name]
