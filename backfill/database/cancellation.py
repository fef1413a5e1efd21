"""Cancellation: which sessions are in use, so that what they do can be cancelled from another thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from backfill.database import open_sessions


class Statements:
    """The sessions in use, so that what they do can be cancelled."""

    def __init__(self, engine: Engine) -> None:
        self._sessions: set[Any] = set()
        self._lock = threading.Lock()
        self._engine = engine

    def _out(self, session: Any, _record: Any, _proxy: Any) -> None:
        with self._lock:
            self._sessions.add(session)

    def _in(self, session: Any, _record: Any) -> None:
        with self._lock:
            self._sessions.discard(session)

    def watch(self) -> None:
        """Keep the list from now on."""
        event.listen(self._engine, "checkout", self._out)
        event.listen(self._engine, "checkin", self._in)

    def leave(self) -> None:
        """No longer."""
        event.remove(self._engine, "checkout", self._out)
        event.remove(self._engine, "checkin", self._in)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep the list for as long as the block lasts."""
        self.watch()
        try:
            yield
        finally:
            self.leave()

    def cancel(self) -> None:
        """Cancel what runs now, without waiting for it; a session that does nothing takes no notice."""
        with self._lock:
            sessions = list(self._sessions)
        open_sessions.cancel(sessions)
