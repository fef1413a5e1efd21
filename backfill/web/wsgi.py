"""WSGI: hash and place of a request in its environment, the address out of it."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from backfill.web.client import Decision
from backfill.web.counting import guarded
from backfill.web.edge import Edge
from backfill.web.event import Event
from backfill.web.pseudonymizer import Pseudonymizer
from backfill.web.removal import PEER_KEYS, always_removed, carries_address, plain

KEY = "backfill.client"


class WsgiMiddleware:
    """Puts a ``Client`` into ``environ["backfill.client"]`` and removes the headers that it came from.

    *proxies* is how many trusted proxies append to X-Forwarded-For; *keep_address*: the client's address is
    needed, as ``Client.address``; *hide_peer*: remove the address of the peer as well, and every header that may
    carry one; *also_remove*: further names. *count* is called with an ``Event``. The environment is changed in
    place, so that the server's access log sees what the application sees.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        pseudonymizer: Pseudonymizer,
        *,
        edge: Edge | None = None,
        proxies: int = 0,
        keep_address: bool = False,
        hide_peer: bool = False,
        also_remove: Iterable[str] = (),
        count: Callable[[Event], object] | None = None,
    ) -> None:
        """Raises ``SettingInvalid``."""
        self._app = app
        self._decision = Decision(pseudonymizer, edge, proxies, keep_address)
        self._removed = tuple(_key(name) for name in always_removed(edge, also_remove))
        self._hide_peer = hide_peer
        self._count = guarded(count)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def headers(name: str) -> Sequence[str]:
            value = environ.get(_key(name))
            return () if value is None else (value,)

        client = self._decision.client(headers, environ.get("REMOTE_ADDR"), self._count)
        for key in self._removed:
            environ.pop(key, None)
        if self._hide_peer:
            for key in PEER_KEYS:
                environ.pop(key, None)
            for key in [
                key for key in environ if key.startswith("HTTP_") and carries_address(plain(key[5:]))
            ]:
                del environ[key]
        environ[KEY] = client
        return self._app(environ, start_response)


@cache  # of the names that the operator gave
def _key(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"
