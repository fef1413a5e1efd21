"""Servers that a test may kill, cut off, promote: made from the binaries, and nobody else's."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg2

from backfill.embedded.binaries import Binaries
from backfill.embedded.user import ServerUser
from tests.databases import query

PORT = 5432
SETTINGS = {
    "listen_addresses": "",
    "port": PORT,
    "wal_level": "replica",
    "max_wal_senders": 5,
    "hot_standby": "on",
    "fsync": "off",  # a killed process loses nothing by that, only a killed machine
    "shared_buffers": "64MB",
    "max_connections": 60,
    "wal_sender_timeout": "5s",
    "log_min_messages": "warning",
}


class Cluster:
    """One server with a folder of its own."""

    def __init__(self, name: str, binaries: Path | None = None) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix="bf-"))  # short: a socket path ends at 107 bytes
        self.folder.chmod(0o711)
        self.user = ServerUser.choose(0)
        found = Binaries(binaries, "0") if binaries else Binaries.find()
        self.bin = found.within_reach_of(self.user, self.folder / "binaries").folder
        self.data, self.socket = self.folder / "data", self.folder / "s"
        for folder in (self.data, self.socket):
            folder.mkdir()
            _give(self.user, folder)
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg2://backfill@/{database}?host={self.socket}&port={PORT}"

    def init(self, *, wal_segment_mb: int = 1) -> "Cluster":
        """Small segments, so that a limit on the size of files meets the heap before the WAL."""
        done = self.user.run(
            self.bin / "initdb",
            *("-D", self.data, "-U", "backfill", "-A", "trust", "-E", "UTF8", "--locale=C"),
            f"--wal-segsize={wal_segment_mb}",
        )
        assert done.returncode == 0, done.stderr
        return self

    def copy_of(self, primary: "Cluster") -> "Cluster":
        """A standby of *primary*, which has to run."""
        shutil.rmtree(self.data)
        ground = self.folder / "ground"  # pg_basebackup makes the data folder itself
        ground.mkdir()
        _give(self.user, ground)
        self.data = ground / "data"
        conninfo = f"host={primary.socket} port={PORT} user=backfill application_name={self.name}"
        done = self.user.run(
            self.bin / "pg_basebackup", "-D", self.data, "-d", conninfo, "-R", "-X", "stream", "-c", "fast"
        )
        assert done.returncode == 0, done.stderr
        return self

    def start(
        self,
        *,
        limit_bytes: int | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> "Cluster":
        """Start and wait until it answers; *limit_bytes*: no file may grow beyond, as on a full disk."""
        options = SETTINGS | {"unix_socket_directories": self.socket} | settings
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        limit = f"ulimit -f {limit_bytes // 1024}; trap '' XFSZ; " if limit_bytes else ""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "/bin/bash",
                    "-c",
                    f'{limit}exec "$@"',
                    "sh",
                    self.bin / "postgres",
                    "-D",
                    self.data,
                    *words,
                ],
                user=self.user.uid,
                group=self.user.gid,
                extra_groups=None if self.user.uid is None else [],
                env={"PATH": os.defpath, "LC_ALL": "C", **(environment or {})},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait()
        return self

    def wait(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                query(self.url(), "select 1")
            except psycopg2.OperationalError:
                assert time.monotonic() < end, self.log.read_text()[-2000:]
                assert self.process is None or self.process.poll() is None, self.log.read_text()[-2000:]
                time.sleep(0.05)
            else:
                return

    def end(self, number: int = signal.SIGINT) -> None:
        """SIGINT: fast shutdown; SIGQUIT: immediate; SIGKILL: the postmaster alone, as the kernel does it."""
        process, self.process = self.process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        process.wait(60)
        if number == signal.SIGKILL:
            self._end_orphans()

    def _end_orphans(self) -> None:
        """Backends of a killed postmaster look up only after their statement; a new one cannot start before."""
        for _ in range(200):
            left = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _works_in(path, self.data)]
            if not left:
                return
            time.sleep(0.05)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)

    def remove(self) -> None:
        self.end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def _give(user: ServerUser, folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        user.give(descriptor)
    finally:
        os.close(descriptor)


def _works_in(process: Path, data: Path) -> bool:
    try:
        return (process / "cwd").resolve() == data.resolve()
    except OSError:
        return False
