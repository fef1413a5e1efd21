"""Rows of ``ip_addresses``: what the live application has met, banned, and half filled in."""

from collections.abc import Callable, Iterator

from backfill.database import binary_copy
from backfill.plan import PYPI
from backfill.pypi.demo.clock import moment
from backfill.pypi.demo.events import Live
from backfill.pypi.demo.pool import Pool

COLUMNS = ("id", "ip_address", "is_banned", "ban_reason", "ban_date", "hashed_ip_address", "geoip_info")

SENTINEL = PYPI.addresses.sentinel  # stands for every text that was no address

# By number and not by chance, so that a small database has them too.
NO_HASH_EVERY, NO_HASH_AT = 11, 3  # met before there was a hash
NO_GEO_EVERY, NO_GEO_AT = 9, 4  # the last request did not come through the edge
BANNED_EVERY, BANNED_AT = 97, 20

_BANNED = (binary_copy.TRUE, binary_copy.text("authentication-attempts"), binary_copy.timestamp(moment(0.97)))
_FREE = (binary_copy.FALSE, binary_copy.NULL, binary_copy.NULL)


def known_rows(pool: Pool, live: Live, hash_address: Callable[[str], str]) -> Iterator[bytes]:
    """Rows of COLUMNS, ``ip_address`` as text: the sentinel, address 0 twice, the linked, the unused.

    Address 0 is there as itself, free, and IPv4-mapped, banned, each with the hash of its own text:
    whoever merges the two has to keep the ban.
    """
    mapped = f"::ffff:{pool.texts[0]}"
    yield _row(live.sentinel, SENTINEL, _FREE, hash_address(SENTINEL), None)
    yield _row(live.mapped, mapped, _BANNED, hash_address(mapped), None)
    yield _row(pool.ids[0], pool.texts[0], _FREE, hash_address(pool.texts[0]), pool.geos[0])
    numbers = [*(number for number in live.numbers if number), *range(pool.size, len(pool.texts))]
    for order, number in enumerate(numbers):
        text = pool.texts[number]
        yield _row(
            pool.ids[number],
            text,
            _BANNED if order % BANNED_EVERY == BANNED_AT else _FREE,
            None if order % NO_HASH_EVERY == NO_HASH_AT else hash_address(text),
            None if order % NO_GEO_EVERY == NO_GEO_AT else pool.geos[number],
        )


def _row(
    identifier: bytes, address: str, ban: tuple[bytes, bytes, bytes], digest: str | None, geo: bytes | None
) -> bytes:
    return binary_copy.row(
        identifier,
        binary_copy.text(address),
        *ban,
        binary_copy.NULL if digest is None else binary_copy.text(digest),
        binary_copy.NULL if geo is None else binary_copy.jsonb(geo),
    )
