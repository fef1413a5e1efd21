"""Servers that fall silent: stopped processes, and a line that swallows what is sent."""

import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.cluster import Cluster, _works_in


def processes(cluster: Cluster) -> list[int]:
    """The postmaster and everything that it started."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _works_in(path, cluster.data)]


@contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """These processes stand still for as long as the block lasts."""
    held = list(pids)
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Line:
    """A TCP line to a Unix socket; once it is cut, what is sent into it is taken and lost."""

    def __init__(self, target: str) -> None:
        self.target, self.cut = target, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.target)
                self._ends += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if not self.cut.is_set():
                    other.sendall(data)
            if not self.cut.is_set():
                other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            end.close()
