"""A rate limiter whose keys hold hashes: with the ``limits`` library."""

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from backfill.web import Client


class Limiter:
    """So many requests in a time, for each client. Clients of whom no address is known share one limit."""

    def __init__(self, rate: str) -> None:
        self._rate: RateLimitItem = parse(rate)
        self.storage = MemoryStorage()  # of this process; RedisStorage counts for all of them
        self._limiter = FixedWindowRateLimiter(self.storage)

    def admits(self, client: Client, action: str) -> bool:
        """Counts one request; False when it is one too many."""
        return self._limiter.hit(self._rate, action, str(client))
