"""Where the files of the embedded server lie.

Normally all of them lie in ``<home>/postgres``. Two things can be in the way: a socket path may not
pass 103 bytes, and the user that root lends the server may be unable to enter the home (a checkout
below ``/root``). Then a private folder under the system's temporary folder, the annex, takes what
has to be elsewhere, and the link ``<home>/postgres/annex`` remembers it. Permissions of folders that
are not ours are never touched.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Self

from backfill.database.embedded.user import ServerUser
from backfill.errors import EmbeddedServerFailed

PORT = 5432  # names the socket file; no TCP port is ever opened
MAX_SOCKET_PATH = 103  # bytes; Linux takes 107, macOS 103
LASTING = Path("/var/tmp")  # noqa: S108 -- outlives a reboot, unlike /tmp; what we make in it is private


@dataclass(frozen=True)
class Folders:
    """The folders of one home, and the user that the server runs as in them."""

    own: Path  # <home>/postgres: lock, log, and normally everything
    ground: Path  # own, or the annex: data and copied binaries
    socket: Path
    user: ServerUser

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.ground / "data"

    @property
    def binaries(self) -> Path:
        """Copies of binaries that the server's user could not reach where they are."""
        return self.ground / "binaries"

    @property
    def log(self) -> Path:
        """The server's log; ours, the server only holds it open."""
        return self.own / "server.log"

    @classmethod
    def look(cls, home: Path) -> Self:
        """The folders as they are; creates nothing. Raises ``EmbeddedServerFailed`` for another user's."""
        own = _own(home)
        _refuse_foreign(home, own)
        annex = _annex(own)
        ground = annex if annex and (annex / "data").is_dir() else own
        socket = ground / "socket"
        return cls(own, ground, socket if _fits(socket) else (annex or own) / "socket", ServerUser())

    @classmethod
    def make(cls, home: Path) -> Self:
        """The folders, created where missing. Call it under ``locked``. Raises ``EmbeddedServerFailed``."""
        own = _own(home)
        try:
            user = ServerUser.choose(own.stat().st_gid if stat.S_IMODE(own.stat().st_mode) == 0o710 else 0)
        except LookupError as error:
            raise EmbeddedServerFailed(home=home, problem=f"found {error}.") from error
        user.admit(own)
        annex = _annex(own)
        if (own / "data").is_dir():
            ground = own
            if not user.reaches(own):
                raise EmbeddedServerFailed(
                    home=home,
                    problem="lies where the server's unprivileged user cannot enter. Let others enter the "
                    "folders above it, or remove it to begin anew.",
                )
        elif (annex and (annex / "data").is_dir()) or not user.reaches(own):
            ground = annex = annex or _make_annex(home, own, user)
        else:
            ground = own
        socket = ground / "socket"
        if not _fits(socket):
            annex = annex or _make_annex(home, own, user)
            socket = annex / "socket"
        socket.mkdir(exist_ok=True)
        user.give(socket)
        return cls(own, ground, socket, user)

    def tidy(self) -> None:
        """Remove an annex that holds nothing but the socket of a stopped server."""
        annex = _annex(self.own)
        if annex and annex != self.ground:
            shutil.rmtree(annex, ignore_errors=True)
            (self.own / "annex").unlink()

    def remove(self) -> None:
        """Remove everything, data included."""
        annex = _annex(self.own)
        if annex:
            shutil.rmtree(annex)
        shutil.rmtree(self.own)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One command at a time starts, stops or creates in *home*; others wait here."""
    own = _own(home)
    _refuse_foreign(home, own)
    path = own / "lock"
    while True:
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a") as file:
            flock(file, LOCK_EX)
            if not _is_at(file.fileno(), path):  # the folder was removed while we waited
                continue
            yield
            return


def _own(home: Path) -> Path:
    return home.resolve() / "postgres"


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _refuse_foreign(home: Path, own: Path) -> None:
    """Another user's server is not ours to start, and writing into its folder as root is a trap."""
    try:
        owner = own.stat().st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid():
        raise EmbeddedServerFailed(
            home=home,
            problem=f"belongs to user id {owner}. Run as that user, or name another folder in BACKFILL_HOME.",
        )


def _fits(socket: Path) -> bool:
    """Whether a socket can lie in *socket*; libpq would take a comma for two hosts."""
    path = os.fsencode(socket / f".s.PGSQL.{PORT}")
    return len(path) <= MAX_SOCKET_PATH and b"," not in path


def _annex(own: Path) -> Path | None:
    """The annex in use; None where there is none, or where a stranger now holds its name."""
    try:
        target = (own / "annex").readlink()
        found = target.lstat()
    except OSError:
        return None
    return target if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() else None


def _make_annex(home: Path, own: Path, user: ServerUser) -> Path:
    for parent in (LASTING, Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 -- mkdtemp makes it private
        if not _fits(parent / "backfill-12345678" / "socket") or not user.reaches(parent):
            continue
        try:
            annex = Path(tempfile.mkdtemp(prefix="backfill-", dir=parent.resolve()))
        except OSError:
            continue
        user.admit(annex)
        (own / "annex").unlink(missing_ok=True)
        (own / "annex").symlink_to(annex)
        return annex
    raise EmbeddedServerFailed(
        home=home, problem="needs a private folder under /var/tmp or /tmp, and neither could be written."
    )
