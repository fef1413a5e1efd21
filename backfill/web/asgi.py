"""ASGI: hash and place of a request in its scope, the address out of it."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from backfill.web.client import Decision
from backfill.web.counting import guarded
from backfill.web.edge import Edge
from backfill.web.event import Event
from backfill.web.pseudonymizer import Pseudonymizer
from backfill.web.removal import always_removed, carries_address, plain
from backfill.web.wsgi import KEY

Scope = MutableMapping[str, Any]


class AsgiMiddleware:
    """``WsgiMiddleware`` for ASGI: the same arguments; ``scope["backfill.client"]`` of requests and web sockets.

    The scope is copied, as the specification asks of middleware: the server's own access log still knows the peer
    (see ``AddressFilter``).
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
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
        self._removed = always_removed(edge, also_remove)
        self._hide_peer = hide_peer
        self._count = guarded(count)

    async def __call__(
        self, scope: Scope, receive: Callable[..., Awaitable[Any]], send: Callable[..., Awaitable[None]]
    ) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = self._changed(scope)
        await self._app(scope, receive, send)

    def _changed(self, scope: Scope) -> Scope:
        given: dict[str, list[str]] = {}
        kept = []
        for pair in scope["headers"]:
            name = pair[0].decode("latin-1").lower()
            given.setdefault(name, []).append(pair[1].decode("latin-1"))
            if not self._is_removed(plain(name)):
                kept.append(pair)
        peer = scope.get("client")
        client = self._decision.client(
            lambda wanted: given.get(wanted.lower(), ()), peer[0] if peer else None, self._count
        )
        changed = {**scope, "headers": kept, KEY: client}
        if self._hide_peer:
            changed["client"] = None
        return changed

    def _is_removed(self, name: str) -> bool:
        return name in self._removed or (self._hide_peer and carries_address(name))
