"""Watchdog: shuts the socket of a session whose server has fallen silent, so that its call returns.

libpq waits for an answer without end: keepalives do not see a stopped server, since its kernel goes on
acknowledging, and Unix sockets have none. A statement may rightly last for hours, so its duration says
nothing. The watchdog asks instead, every few seconds while a call is under way: does the server answer
a new connection at all, and is our session at work there?

One stopped server process beside others that work, in the middle of a statement without a timeout, looks
like one that works: it is waited for. With a timeout (``Timeouts``) the timeout and a grace are its end.
"""

import contextlib
import os
import socket
import threading
import time
from typing import Any

import psycopg2

from backfill.database import open_sessions, probe
from backfill.database.open_sessions import Call, Session

ASK_SECONDS = 5.0
ANSWER_SECONDS = 5.0  # for the first byte to a new connection
GRACE_SECONDS = 10.0  # beyond a statement timeout that the server should have kept
SSL_REQUEST = (
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # answered by one byte, before any slot or password is asked for
)
ACTIVITY = "select pid, state from pg_catalog.pg_stat_activity"
IDLE = frozenset({"idle", "idle in transaction", "idle in transaction (aborted)"})

Address = tuple[int, Any]

_starting = threading.Lock()


class _State:
    """Of this process."""

    silence = 60.0
    thread: threading.Thread | None = None
    process = 0


_silent: dict[Address, float] = {}  # servers that did not answer, and since when


def configure(silence: float) -> None:
    """How many seconds without any answer are too many (BACKFILL_SILENCE)."""
    _State.silence = silence


def start() -> None:
    """Watch all sessions of this process from now on; once is enough."""
    with _starting:
        if _State.thread is None or _State.process != os.getpid():
            _State.process = os.getpid()
            _State.thread = threading.Thread(target=_watch, name="watchdog", daemon=True)
            _State.thread.start()


def answers(address: Address, seconds: float) -> bool:
    """Whether the server at *address* says anything to a new connection."""
    family, where = address
    with socket.socket(family, socket.SOCK_STREAM) as line:
        line.settimeout(seconds)
        try:
            line.connect(where)
            line.sendall(SSL_REQUEST)
            return bool(line.recv(1))
        except OSError:  # refused, unreachable, too late
            return False


def is_silent(since: float, seconds: float) -> bool:
    """Whether a call lasts since before *since*, and its server says nothing to a new connection either."""
    late = [session for session, call in open_sessions.waiting() if call.since < since]
    return bool(late) and not answers(late[0].address, seconds)


def _watch() -> None:
    while True:
        asking_every = min(ASK_SECONDS, _State.silence / 3)
        time.sleep(asking_every / 4)
        # Whatever a look meets, the next one is due: without it nobody would end a call.
        with contextlib.suppress(Exception):
            _look(asking_every)


def _look(asking_every: float) -> None:
    due: dict[Address, list[tuple[Session, Call]]] = {}
    now = time.monotonic()
    for session, call in open_sessions.waiting():
        limit = session.limit
        if limit is not None and now - call.since > limit + GRACE_SECONDS:
            session.shut(f"a statement did not end at its timeout of {limit:g} s", call)
        elif now - call.asked >= asking_every or session.address in _silent:
            due.setdefault(session.address, []).append((session, call))
    for address, found in due.items():
        _ask(address, found, asking_every)


def _ask(address: Address, found: list[tuple[Session, Call]], asking_every: float) -> None:
    asked = time.monotonic()
    if answers(address, min(ANSWER_SECONDS, _State.silence / 2)):
        _silent.pop(address, None)
        _ask_for_sessions(found, asking_every)
        return
    since = _silent.setdefault(address, asked)
    if time.monotonic() - since >= _State.silence:
        for session, call in found:
            session.shut(f"the server has not answered for {_State.silence:g} s", call)


def _ask_for_sessions(found: list[tuple[Session, Call]], asking_every: float) -> None:
    """Whether the server still works for these sessions; one that could not tell is believed to."""
    known: dict[int, str | None] | None = None
    with contextlib.suppress(probe.NoAnswer, psycopg2.Error):
        known = dict(probe.ask(found[0][0].server, ACTIVITY, None, ANSWER_SECONDS))
    for session, call in found:
        call.asked = time.monotonic()
        gone = known is not None and session.pid not in known
        if not gone and (known is None or known[session.pid] not in IDLE):
            call.idle_since = None
            continue
        # Twice: it may have ended between our look and its answer.
        call.idle_since = call.idle_since or call.asked
        if call.asked - call.idle_since >= (asking_every if gone else _State.silence):
            session.shut(
                "the server knows nothing of it any more"
                if gone
                else f"the server has not begun with it for {_State.silence:g} s",
                call,
            )
