"""For the live application: hash and place of a request, with the standard library alone. Public API: docs/web.md."""

from backfill.web.address_filter import AddressFilter
from backfill.web.asgi import AsgiMiddleware
from backfill.web.client import Client
from backfill.web.edge import Edge
from backfill.web.event import Event
from backfill.web.pseudonymizer import Key, Pseudonymizer
from backfill.web.wsgi import WsgiMiddleware

__all__ = [
    "AddressFilter",
    "AsgiMiddleware",
    "Client",
    "Edge",
    "Event",
    "Key",
    "Pseudonymizer",
    "WsgiMiddleware",
]
