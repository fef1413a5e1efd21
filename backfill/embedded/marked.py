"""Folders of ours, told from everybody else's by a marker file that was written when we made them.

A folder called ``postgres`` may belong to somebody else's PostgreSQL, and may be a link into another
folder. So nothing is changed, handed to another user or removed in a folder unless it is a real folder
of this user with our marker in it. What is changed is reached through a descriptor of the folder that
was checked, never by its path again: between check and use the path may come to mean another folder.
"""

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from backfill.errors import FolderNotOurs
from backfill.files import NotPlain, kind_of, read_plain

MARKER = ".made-by-backfill"
FIRST_LINE = "Made by Backfill for its embedded PostgreSQL. Do not copy this file into other folders."
MAX_MARKER = 5_000  # bytes; it holds one path
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Marked:
    """An open folder that carries our marker. *made_for* is the path that the marker names."""

    descriptor: int
    path: Path
    made_for: str

    @classmethod
    def look(cls, path: Path) -> Self | None:
        """The folder at *path*, opened; None where there is nothing. Raises ``FolderNotOurs``."""
        try:
            descriptor = os.open(path, FOLDER)
        except FileNotFoundError:
            if path.is_symlink():
                raise FolderNotOurs(path=path, problem="it is a symbolic link") from None
            return None
        except OSError as error:
            found = path.lstat() if os.path.lexists(path) else None
            kind = kind_of(found) if found else None
            if found and kind is None:
                kind = "it is a file"
            if kind is None or kind == "it is a folder":
                kind = error.strerror or "it cannot be opened"
            raise FolderNotOurs(path=path, problem=kind) from None
        try:
            return cls(descriptor, path, _read_marker(descriptor, path))
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)

    def names(self, beginning: str) -> list[str]:
        """Entries whose name begins with *beginning*."""
        return [name for name in os.listdir(self.descriptor) if name.startswith(beginning)]  # noqa: PTH208 -- by descriptor

    def clear(self, name: str) -> None:
        """Remove the entry *name*, a whole folder too; links are removed, not followed."""
        try:
            found = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(name, dir_fd=self.descriptor)
            else:
                os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            pass  # somebody else was faster

    def remove(self) -> None:
        """Remove the folder with all that is in it; the marker goes last, so that a killed removal can go on."""
        for name in os.listdir(self.descriptor):  # noqa: PTH208 -- by descriptor
            if name != MARKER:
                self.clear(name)
        os.unlink(MARKER, dir_fd=self.descriptor)
        if self.is_at_its_path():
            self.path.rmdir()  # removes an empty folder and nothing else

    def is_at_its_path(self) -> bool:
        """Whether the path still means this folder."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self.descriptor), self.path.lstat())
        return False


@contextmanager
def opened(path: Path) -> Iterator[Marked]:
    """The folder of ours at *path*. Raises ``FolderNotOurs``, ``FileNotFoundError``."""
    marked = Marked.look(path)
    if marked is None:
        raise FileNotFoundError(f"no such folder: {path}")
    try:
        yield marked
    finally:
        marked.close()


def create(path: Path, made_for: Path) -> None:
    """Make the folder *path* with the marker in it, in one step; one that is there already stays.

    Raises ``FolderNotOurs`` for something else of that name.
    """
    looked = Marked.look(path) if not _is_empty_and_ours(path) else None
    if looked is not None:
        looked.close()
        return
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    draft.mkdir(mode=0o700)
    try:
        mark(draft, made_for)
        with suppress(OSError):  # another command was faster, or it is a mount point: looked at below
            draft.rename(path)  # takes the place of an empty folder, of nothing else
            return
    finally:
        if draft.is_dir() and not draft.is_symlink():
            (draft / MARKER).unlink(missing_ok=True)
            draft.rmdir()
    with opened(path):
        return


def mark(path: Path, made_for: Path) -> None:
    """Write the marker into *path*, a folder that we have just made."""
    folder = os.open(path, FOLDER)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(MARKER, flags, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{FIRST_LINE}\n{json.dumps(str(made_for))}\n".encode())
    finally:
        os.close(folder)


def subfolder(parent: Marked, name: str, *owners: int) -> int:
    """A descriptor of the folder *name* in *parent*, made where missing; *owners* may own it.

    Raises ``FolderNotOurs`` for a link, a file, or the folder of another user.
    """
    with suppress(FileExistsError):
        os.mkdir(name, mode=0o700, dir_fd=parent.descriptor)
    try:
        descriptor = os.open(name, FOLDER, dir_fd=parent.descriptor)
    except OSError:
        found = os.stat(name, dir_fd=parent.descriptor, follow_symlinks=False)
        raise FolderNotOurs(path=parent.path / name, problem=kind_of(found) or "it is a file") from None
    owner = os.fstat(descriptor).st_uid
    if owner not in owners:
        os.close(descriptor)
        raise FolderNotOurs(path=parent.path / name, problem=f"it belongs to user id {owner}")
    return descriptor


def _read_marker(descriptor: int, path: Path) -> str:
    owner = os.fstat(descriptor).st_uid
    if owner != os.geteuid():
        raise FolderNotOurs(path=path, problem=f"it belongs to user id {owner}")
    try:
        content, found = read_plain(MARKER, MAX_MARKER, folder=descriptor, links=False)
    except FileNotFoundError:
        raise FolderNotOurs(path=path, problem=f"it has no file {MARKER}") from None
    except NotPlain as error:
        raise FolderNotOurs(path=path, problem=f"about {MARKER} in it: {error}") from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise FolderNotOurs(path=path, problem=f"others may have written {MARKER} in it")
    first, _, second = content.partition(b"\n")
    try:
        made_for = json.loads(second)
    except ValueError:
        made_for = None
    if first != FIRST_LINE.encode() or not isinstance(made_for, str):
        raise FolderNotOurs(path=path, problem=f"{MARKER} in it says something else")
    return made_for


def _is_empty_and_ours(path: Path) -> bool:
    """Whether *path* is missing, or an empty folder of this user, which loses nothing."""
    try:
        found = path.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not any(path.iterdir())
    except FileNotFoundError:
        return True
    except OSError:
        return False
