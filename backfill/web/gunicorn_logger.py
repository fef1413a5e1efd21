"""``gunicorn --logger-class backfill.web.gunicorn_logger.HashLogger``: the one module here that needs gunicorn."""

from typing import Any

from gunicorn.glogging import Logger

from backfill.web.address_filter import AddressFilter
from backfill.web.pseudonymizer import Pseudonymizer
from backfill.web.wsgi import KEY


class HashLogger(Logger):  # type: ignore[misc]
    """Access and error log with hashes in the place of addresses: ``%(h)s`` is the client's, where the application is
    behind ``WsgiMiddleware``; any other address, in whatever field, becomes its own hash."""

    def __init__(self, cfg: Any) -> None:
        """As gunicorn does. Its two loggers get the filter, not their handlers, which a reload replaces."""
        super().__init__(cfg)
        addresses = AddressFilter(self.pseudonymizer())
        self.error_log.addFilter(addresses)
        self.access_log.addFilter(addresses)

    def pseudonymizer(self) -> Pseudonymizer:
        """From the environment; override it for another."""
        return Pseudonymizer.from_environment()

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        """As gunicorn's, with the client's hash as ``h``."""
        atoms: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        return atoms | {"h": str(environ.get(KEY, "-"))}
