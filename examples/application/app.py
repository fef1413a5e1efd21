"""The application: every request is an event of a user, unless its client is banned or too fast.

Its three releases are one file here, so that a test can deploy them one after the other: the number is read when a
worker starts, from the file that APPLICATION_RELEASE names. ``gunicorn -c examples/application/gunicorn_conf.py
examples.application.app:application`` serves it.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, insert
from sqlalchemy.exc import IntegrityError

from backfill.web import Client, Edge, Pseudonymizer, WsgiMiddleware
from examples.application.clients import ban, is_banned, is_banned_by_address, row_by_address, row_by_hash
from examples.application.limiter import Limiter
from examples.application.tables import user_events


@dataclass(frozen=True)
class Release:
    """What one version of the application does with addresses."""

    row_of: Callable[[Connection, Client], UUID] = row_by_hash
    is_banned: Callable[[Connection, Client], bool] = is_banned
    writes_raw_text: bool = False
    keeps_address: bool = False


RELEASES = {
    "1": Release(row_by_address, is_banned_by_address, writes_raw_text=True, keeps_address=True),
    "2": Release(keeps_address=True),  # before 0003a: no raw text in events, everything by hash
    "3": Release(),  # before 0005b: no address at all
}


class Application:
    """Answers 200 with the hash, 403 to the banned, 429 to the fast."""

    def __init__(self, engine: Engine, release: Release, limiter: Limiter, user: UUID) -> None:
        self.engine, self.release, self.limiter, self.user = engine, release, limiter, user
        self.events: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        client: Client = environ["backfill.client"]
        if environ["PATH_INFO"] == "/state":  # for the test: this worker's memory
            state = {"limits": [*self.limiter.storage.storage], "events": self.events, "pid": os.getpid()}
            return _answer(start_response, "200 OK", json.dumps(state))
        if not self.limiter.admits(client, "request"):
            return _answer(start_response, "429 Too Many Requests", "slower")
        try:
            return self._in_transaction(client, environ["PATH_INFO"], start_response)
        except IntegrityError:  # another release inserted the same client at this moment
            return self._in_transaction(client, environ["PATH_INFO"], start_response)

    def _in_transaction(
        self, client: Client, path: str, start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        with self.engine.begin() as connection:
            if client.hash is not None and self.release.is_banned(connection, client):
                return _answer(start_response, "403 Forbidden", "banned")
            if path == "/attack":
                ban(connection, client)
            self._write(connection, client, path)
        return _answer(start_response, "200 OK", str(client))

    def _write(self, connection: Connection, client: Client, path: str) -> None:
        event: dict[str, Any] = {"source_id": self.user, "tag": f"request:{path}"}
        if client.place:
            event["additional"] = {"geoip_info": client.place}  # as it was at the time of the event
        if client.hash is not None:
            event["ip_address_id"] = self.release.row_of(connection, client)
        if self.release.writes_raw_text:
            event["ip_address_string"] = client.address
        connection.execute(insert(user_events).values(event))


def _answer(start_response: Callable[..., Any], status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]


def deployed() -> WsgiMiddleware:
    """The release that is to be served, with settings from the environment."""
    release = RELEASES[Path(os.environ["APPLICATION_RELEASE"]).read_text().strip()]
    engine = create_engine(os.environ["APPLICATION_DATABASE"], pool_size=1, hide_parameters=True)
    user = UUID(os.environ["APPLICATION_USER"])
    made = Application(engine, release, Limiter(os.environ["APPLICATION_RATE"]), user)
    return WsgiMiddleware(
        made,
        Pseudonymizer.from_environment(),
        edge=Edge(os.environ["APPLICATION_EDGE_TOKEN"]),
        proxies=1,
        keep_address=release.keeps_address,
        hide_peer=True,
        count=lambda event: made.events.update([event]),
    )


def __getattr__(name: str) -> WsgiMiddleware:
    """``application`` is made when a worker asks for it, not when a test imports this module."""
    if name == "application":
        return deployed()
    raise AttributeError(name)
