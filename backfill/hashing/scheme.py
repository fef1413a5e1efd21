"""What a hash scheme is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class HashScheme:
    """A formula for stored hashes.

    *name* stands in plans, the ledger and reports, so it never changes. *digest* makes 64 lower-case hex digits of
    the address's text and the salt, both as bytes. It takes any bytes and never raises: a traceback from it could
    show the salt.
    """

    name: str
    digest: Callable[[bytes, bytes], str]
