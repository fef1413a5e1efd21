"""The server process: told from strangers that bear its number, launched, stopped.

A process id is only believed when the process was started as ``postgres -D <our data folder>`` by the
server's user: the number in ``postmaster.pid`` outlives a killed server and may belong to anybody by
then, and anybody may start a process under such words.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from backfill.embedded.binaries import Binaries
from backfill.embedded.folders import PORT, Folders
from backfill.embedded.user import ServerUser, server_uid
from backfill.files import NotPlain, read_plain

STOP_SECONDS = 60.0  # a fast shutdown writes a checkpoint: up to max_wal_size of dirty pages
KILL_SECONDS = 10.0
MAX_PID_FILE = 10_000  # bytes; a lock file has eight short lines
PROC = Path("/proc")

SETTINGS = {
    "listen_addresses": "",  # never a TCP port
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "logging_collector": "off",  # one log file, ours
    "log_destination": "stderr",
    "shared_buffers": "256MB",
    "wal_buffers": "64MB",  # commits are asynchronous: the 8 MB that follow from 256 fill in a tenth of a second, and writers wait
    "max_wal_size": "2GB",  # the demo rewrites its tables; fewer checkpoints, fewer full-page images
}

# The shell leaves at once, so the server is init's child and not ours: nothing to reap, and our
# terminal, our signals and our end are none of its business.
DETACH = '"$@" >&2 & echo $!'

# A backend works in its server's data folder, which is how ours are told from any other's.
END_THOSE_IN = 'for pid; do [ "$(cd -P /proc/$pid/cwd && pwd -P)" = "$0" ] && kill $pid; done'


@dataclass(frozen=True)
class Postmaster:
    """The server of one data folder, running or not."""

    data: Path

    @property
    def pid_file(self) -> Path:
        """Written by the server; its first line is the process id."""
        return self.data / "postmaster.pid"

    def pid(self) -> int | None:
        """The process id of the running server, still starting or already stopping included."""
        recorded = self._recorded()
        return recorded if recorded is not None and self._is_ours(recorded) else None

    def launch(self, binaries: Binaries, folders: Folders) -> int:
        """Start the server in the background; returns the process id. Raises ``OSError``."""
        socket = str(folders.socket).replace('"', '""')
        settings = {**SETTINGS, "unix_socket_directories": f'"{socket}"'}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with folders.log.open("ab") as log:
            command = [str(binaries.postgres), "-D", str(self.data), *options]
            started = folders.user.run("/bin/sh", "-c", DETACH, "sh", *command, stderr=log.fileno())
        return int(started.stdout)

    def is_alive(self, pid: int) -> bool:
        """Whether the process that ``launch`` returned is still there, in the shell or as the server."""
        return os.fsencode(self.data) in _arguments(pid)

    def clear_stale(self, socket: Path) -> None:
        """Remove lock files that a stranger's process id would make the next server believe in.

        Only when no server is running. What names a dead process stays: PostgreSQL clears that
        itself, and looks first whether processes of the dead server still use its memory.
        """
        for lock in (self.pid_file, socket / f".s.PGSQL.{PORT}.lock"):
            recorded = _first_number(lock)
            if recorded is None or _exists(recorded):
                lock.unlink(missing_ok=True)

    def end_orphans(self, user: ServerUser) -> None:
        """Ask backends that outlived a killed server to go; the next server cannot start before.

        Done by *user*, the server's: a container's root may not look into others' processes.
        """
        backends = [
            path.name for path in PROC.glob("[0-9]*") if _title(int(path.name)).startswith(b"postgres: ")
        ]
        user.run("/bin/sh", "-c", END_THOSE_IN, self.data, *backends)

    def stop(self) -> bool:
        """Fast shutdown: sessions are ended, data is flushed. False when it was not running.

        Raises ``TimeoutError`` when it would not end.
        """
        pid = self.pid()
        if pid is None:
            return False
        for number, patience in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, KILL_SECONDS)):
            self._signal(pid, number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if not self._is_ours(pid):
                    return True
                time.sleep(0.01)
        raise TimeoutError(f"process {pid} does not end")

    def _recorded(self) -> int | None:
        return _first_number(self.pid_file)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        """Signal the server, and nobody who was given its number since we looked."""
        if not hasattr(os, "pidfd_open"):  # macOS
            if self._is_ours(pid):
                os.kill(pid, number)
            return
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self._is_ours(pid):
                signal.pidfd_send_signal(process, number)
        except ProcessLookupError:
            pass  # it has ended by itself
        finally:
            os.close(process)

    def _is_ours(self, pid: int) -> bool:
        words = _arguments(pid)
        return (
            bool(words)
            and Path(os.fsdecode(words[0])).name == "postgres"
            and os.fsencode(self.data) in words
            and _user(pid) == server_uid()
        )


def _first_number(path: Path) -> int | None:
    """The positive number in the first line; None when there is no such plain file or no such line."""
    try:
        content, _ = read_plain(path, MAX_PID_FILE, links=False)
        number = int(content.splitlines()[0])
    except (FileNotFoundError, NotPlain, IndexError, ValueError):
        return None
    return abs(number) or None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _user(pid: int) -> int | None:
    """The user id that a process runs as; None when it is gone."""
    if PROC.joinpath("self").exists():
        try:
            status = PROC.joinpath(str(pid), "status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("Uid:")), None)
    listed = subprocess.run(["ps", "-o", "uid=", "-p", str(pid)], capture_output=True, check=False)  # noqa: S607
    return int(listed.stdout) if listed.stdout.strip().isdigit() else None


def _title(pid: int) -> bytes:
    return (_arguments(pid) or [b""])[0]


def _arguments(pid: int) -> list[bytes]:
    """The words a process was started with; none when it is gone, or dead and not yet collected."""
    if PROC.joinpath("self").exists():
        try:
            return PROC.joinpath(str(pid), "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            return []
    # macOS: ps joins the words with spaces, which is enough to find ours between two options.
    listed = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)  # noqa: S607
    program, _, rest = listed.stdout.strip().partition(b" -D ")
    return [program, rest.partition(b" -c ")[0]] if rest else []
