"""Which headers are removed, so that nothing behind the middleware can store an address."""

import re
from collections.abc import Iterable
from functools import lru_cache

from backfill.web.edge import Edge

FORWARDED_FOR = "x-forwarded-for"

# Names that say nothing by their words; the rest of the kind is known by ``_CARRIES``.
CARRIERS = frozenset(
    {
        "forwarded",  # RFC 7239
        "x-forwarded",
        "client-address",
        "x-cluster-client",
        "x-coming-from",
        "x-client",
        "x-remote",
        "remote-host",
        "x-remote-host",
        "cloudfront-viewer-address",
        "x-envoy-external-address",
        "x-proxyuser",
    }
)
# "X-Real-IP", "CF-Connecting-IPv6", "True-Client-IP", "X-Azure-ClientIP", "X-Vercel-Forwarded-For", "Remote-Addr", …
_CARRIES = re.compile(
    r"(?:^|-)(?:ips?|ipv[46]|(?:client|socket|real|remote|user|source|src|origin|peer|proxyuser|visitor)(?:-?ip|-?addr(?:ess)?))(?:-|$)"
    r"|(?:^|-)(?:forwarded|coming|http)-for(?:-|$)|(?:^|-)addr(?:-|$)"
)
# Keys of a WSGI environment beside the headers.
PEER_KEYS = (
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "REMOTE_HOST",
    "PROXY_ADDR",
    "PROXY_PORT",
    "werkzeug.proxy_fix.orig",
)


@lru_cache(maxsize=1_024)  # bounded: clients choose the names
def carries_address(name: str) -> bool:
    """Whether a header of that *name* (lower case, hyphens) is one in which proxies pass on a client's address."""
    return name in CARRIERS or _CARRIES.search(name) is not None


def always_removed(edge: Edge | None, also_remove: Iterable[str]) -> frozenset[str]:
    """Lower-case names that no request keeps, whoever sent them."""
    named = (*(edge.headers if edge else ()), *also_remove)
    return frozenset({FORWARDED_FOR, *(plain(name) for name in named)})


def plain(name: str) -> str:
    """A header's name as it is compared: servers and frameworks take underscores for hyphens."""
    return name.lower().replace("_", "-")
