"""Open sessions: every session of this process, what it waits for, and how it is ended from another thread.

A call into libpq hears no signal and has no end of its own. Each call is therefore noted when it
begins, so that another thread can cancel it on the server, or shut its socket (``watchdog``).
"""

import os
import socket
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import psycopg2
import psycopg2.extensions

from backfill.database import probe
from backfill.database.quoting import doubled

CANCEL_SECONDS = 1.0  # for one request to cancel; the next may follow while it is still on its way

_lock = threading.Lock()
_sessions: "weakref.WeakSet[Session]" = weakref.WeakSet()


@dataclass
class Call:
    """A call into libpq that has not returned."""

    commits: bool
    since: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.monotonic)  # when the watchdog last had an answer
    idle_since: float | None = None  # the server says that it is doing nothing for us


class Session(psycopg2.extensions.connection):
    """A connection that knows how long its current call has lasted."""

    def __init__(self, dsn: str, **options: Any) -> None:
        super().__init__(dsn, **options)
        self.cursor_factory = Cursor
        self.call: Call | None = None
        self.limit: float | None = None  # statement timeout of this transaction, in seconds
        self.cut: str | None = None  # why its socket was shut from here
        self.server = _same_server(dsn, self.info)
        self.pid = self.info.backend_pid
        with socket.socket(fileno=os.dup(self.fileno())) as line:
            self.address = int(line.family), line.getpeername()
        with _lock:
            _sessions.add(self)

    def commit(self) -> None:
        """Commit; where the answer is lost, the outcome is unknown and the error says so."""
        self._end(super().commit, commits=True)

    def rollback(self) -> None:
        """Roll back."""
        self._end(super().rollback, commits=False)

    def _end(self, end: Any, *, commits: bool) -> None:
        self.call = Call(commits)
        try:
            end()
        except psycopg2.Error as error:
            explain(self, error)
        finally:
            self.call = self.limit = None

    def shut(self, why: str, call: Call) -> None:
        """Shut the socket, so that *call*, if it is still under way, returns with an error."""
        if self.call is not call or self.closed:
            return
        self.cut = why
        with socket.socket(fileno=os.dup(self.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


def explain(session: Session, error: psycopg2.Error) -> NoReturn:
    """Raise *error*, or why it is our own doing."""
    if session.cut is None:
        raise error
    unknown = "; whether this commit was done is unknown" if session.call and session.call.commits else ""
    raise psycopg2.OperationalError(f"{session.cut}; the session was closed from here{unknown}") from error


def _same_server(dsn: str, reached: Any) -> str:
    """*dsn* for the very server that was reached: with several hosts another attempt might reach another one."""
    given = psycopg2.extensions.parse_dsn(dsn)
    where = {} if given.get("hostaddr") else {"host": reached.host, "port": reached.port}
    if "target_session_attrs" in given:
        where["target_session_attrs"] = "any"
    return psycopg2.extensions.make_dsn(dsn, **where)


class Cursor(psycopg2.extensions.cursor):
    """A cursor whose calls are noted on its session."""

    def _note(self, method: Any, *arguments: Any, **options: Any) -> Any:
        session: Any = self.connection
        session.call = Call(commits=False)
        try:
            return method(*arguments, **options)
        except psycopg2.Error as error:
            explain(session, error)
        finally:
            session.call = None

    def execute(self, *arguments: Any, **options: Any) -> Any:
        """As the driver's; a name that holds ``%`` is no placeholder."""
        statement, values = (*arguments, options.pop("vars", None))[:2]
        if values is not None:
            statement = doubled(statement, self)
        return self._note(super().execute, statement, values)

    def executemany(self, *arguments: Any, **options: Any) -> Any:
        """As the driver's."""
        return self._note(super().executemany, *arguments, **options)

    def copy_expert(self, *arguments: Any, **options: Any) -> Any:
        """As the driver's."""
        return self._note(super().copy_expert, *arguments, **options)


def waiting() -> list[tuple[Session, Call]]:
    """The sessions that have a call under way."""
    with _lock:
        sessions = list(_sessions)
    return [(session, call) for session in sessions if (call := session.call) and not session.closed]


def cancel(sessions: Iterable[Session]) -> list[threading.Thread]:
    """Cancel what *sessions* do, a thread a server; nobody has to wait for them."""
    by_server: dict[str, list[int]] = defaultdict(list)
    for session in sessions:
        if session.call is not None:  # one that does nothing has nothing to cancel
            by_server[session.server].append(session.pid)
    threads = [
        threading.Thread(target=probe.cancel, args=(server, pids, CANCEL_SECONDS), daemon=True)
        for server, pids in by_server.items()
    ]
    for thread in threads:
        thread.start()
    return threads


def cancel_all() -> list[threading.Thread]:
    """Cancel what every session of this process does."""
    return cancel(session for session, _ in waiting())
