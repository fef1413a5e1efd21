"""Where the files of the embedded server lie.

Normally all of them lie in ``<home>/postgres``. Two things can be in the way: a socket path may not
pass 103 bytes, and the user that root lends the server may be unable to enter the home (a checkout
below ``/root``). Then a private folder under the system's temporary folder, the annex, takes what
has to be elsewhere, and the link ``<home>/postgres/annex`` remembers it. Both carry our marker, and
without it nothing in them is touched (``marked``).
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Self

from backfill.embedded import marked
from backfill.embedded.marked import Marked
from backfill.embedded.user import ServerUser, server_uid
from backfill.errors import EmbeddedServerFailed, FolderNotOurs
from backfill.files import make_home

PORT = 5432  # names the socket file; no TCP port is ever opened
MAX_SOCKET_PATH = 103  # bytes; Linux takes 107, macOS 103
LASTING = Path("/var/tmp")  # noqa: S108 -- outlives a reboot, unlike /tmp; what we make in it is private
HALF = "data.making-"  # a data folder that initdb is still filling


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
        """The folders as they are; creates nothing. Raises ``EmbeddedServerFailed``, ``FolderNotOurs``."""
        own = _own(home)
        folder = Marked.look(own)
        if folder is None:
            return cls(own, own, own / "socket", ServerUser())
        try:
            annex = _annex(folder)
            _has_data(folder)
        finally:
            folder.close()
        ground = annex if annex and (annex / "data").is_dir() else own
        socket = ground / "socket"
        return cls(own, ground, socket if _fits(socket) else (annex or own) / "socket", ServerUser())

    @classmethod
    def make(cls, home: Path) -> Self:
        """The folders, created where missing; call it under ``locked``.

        Raises ``EmbeddedServerFailed``, ``FolderNotOurs``.
        """
        own = _own(home)
        with marked.opened(own) as folder:
            found = os.fstat(folder.descriptor)
            try:
                user = ServerUser.choose(found.st_gid if stat.S_IMODE(found.st_mode) == 0o710 else 0)
            except LookupError as error:
                raise EmbeddedServerFailed(home=home, problem=f"found {error}.") from error
            user.admit(folder.descriptor)
            annex = _annex(folder)
            if _has_data(folder):
                ground = own
                if not user.reaches(own):
                    raise EmbeddedServerFailed(
                        home=home,
                        problem="lies where the server's unprivileged user cannot enter. Let others enter the "
                        "folders above it, or remove it to begin anew.",
                    )
            elif (annex and (annex / "data").is_dir()) or not user.reaches(own):
                ground = annex = annex or _make_annex(home, folder, user)
            else:
                ground = own
            socket = ground / "socket"
            if not _fits(socket):
                annex = annex or _make_annex(home, folder, user)
                socket = annex / "socket"
        with marked.opened(socket.parent) as place:
            descriptor = marked.subfolder(place, "socket", os.geteuid(), server_uid())
            try:
                user.give(descriptor)
            finally:
                os.close(descriptor)
        return cls(own, ground, socket, user)

    def tidy(self) -> None:
        """Remove an annex that holds nothing but the socket of a stopped server."""
        with marked.opened(self.own) as folder:
            annex = _annex(folder)
            if annex and annex != self.ground:
                _remove(annex)
                folder.clear("annex")

    def remove(self) -> None:
        """Remove everything, data included."""
        with marked.opened(self.own) as folder:
            annex = _annex(folder)
            if annex:
                _remove(annex)
            folder.remove()

    def clear_halves(self) -> None:
        """Remove data folders that a killed initdb left half-made."""
        with marked.opened(self.ground) as folder:
            for name in folder.names(HALF):
                with suppress(OSError):  # an initdb that outlived its client still writes into it
                    folder.clear(name)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One command at a time starts, stops or creates in *home*; others wait here.

    Raises ``EmbeddedServerFailed``, ``FolderNotOurs``.
    """
    descriptor: int | None = None
    while descriptor is None:
        own = _own(home)
        make_home(own.parent)
        marked.create(own, made_for=own)
        with suppress(FileNotFoundError):  # removed since: once more
            descriptor = _lock(own)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(own: Path) -> int | None:
    """A descriptor that holds the lock; None when the folder was removed while we waited."""
    with marked.opened(own) as folder:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open("lock", flags, 0o600, dir_fd=folder.descriptor)
        try:
            flock(descriptor, LOCK_EX)
            if folder.is_at_its_path() and os.path.samestat(
                os.fstat(descriptor), os.stat("lock", dir_fd=folder.descriptor, follow_symlinks=False)
            ):
                kept, descriptor = descriptor, -1
                return kept
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    return None


def _own(home: Path) -> Path:
    """``<home>/postgres``. The home itself may be reached by a link: the operator named it.

    Raises ``EmbeddedServerFailed`` where another user could put another folder into its place.
    """
    place = home.resolve()
    with suppress(FileNotFoundError, NotADirectoryError):
        found = place.stat()
        if found.st_uid not in (os.geteuid(), 0):
            raise EmbeddedServerFailed(
                home=home,
                problem=f"belongs to user id {found.st_uid}. Run as that user, or name another folder in BACKFILL_HOME.",
            )
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise EmbeddedServerFailed(
                home=home,
                problem="lies in a folder that every user may write to. Take that right away (chmod o-w), or name "
                "another folder in BACKFILL_HOME.",
            )
    return place / "postgres"


def _has_data(folder: Marked) -> bool:
    """Whether there is a data folder. Raises ``FolderNotOurs`` for one that cannot be ours."""
    try:
        found = os.stat("data", dir_fd=folder.descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return False
    path = folder.path / "data"
    if not stat.S_ISDIR(found.st_mode):
        raise FolderNotOurs(path=path, problem="it is a link or a file")
    if found.st_uid not in (os.geteuid(), server_uid()):
        raise FolderNotOurs(path=path, problem=f"it belongs to user id {found.st_uid}")
    return True


def _fits(socket: Path) -> bool:
    """Whether a socket can lie in *socket*; libpq would take a comma for two hosts."""
    path = os.fsencode(socket / f".s.PGSQL.{PORT}")
    return len(path) <= MAX_SOCKET_PATH and b"," not in path


def _annex(own: Marked) -> Path | None:
    """The annex in use; None where there is none, or one that is not this home's.

    A stranger may hold its name after a reboot, and a copied home has a link to the original's.
    """
    try:
        target = Path(os.readlink("annex", dir_fd=own.descriptor))
        annex = Marked.look(target)
    except (OSError, FolderNotOurs):
        return None
    if annex is None:
        return None
    try:
        made_for = Path(annex.made_for)
        if made_for != own.path and os.path.lexists(made_for / "annex"):
            return None
        _has_data(annex)
        return target
    finally:
        annex.close()


def _remove(annex: Path) -> None:
    with marked.opened(annex) as folder:
        folder.remove()


def _make_annex(home: Path, own: Marked, user: ServerUser) -> Path:
    for parent in (LASTING, Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 -- mkdtemp makes it private
        if not _fits(parent / "backfill-12345678" / "socket") or not user.reaches(parent):
            continue
        try:
            annex = Path(tempfile.mkdtemp(prefix="backfill-", dir=parent.resolve()))
        except OSError:
            continue
        marked.mark(annex, own.path)
        with marked.opened(annex) as folder:
            user.admit(folder.descriptor)
        own.clear("annex")
        os.symlink(annex, "annex", dir_fd=own.descriptor)
        return annex
    raise EmbeddedServerFailed(
        home=home, problem="needs a private folder under /var/tmp or /tmp, and neither could be written."
    )
