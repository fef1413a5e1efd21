"""Files: the cluster's own, from this machine's disk or through the server's file functions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg2
from psycopg2 import errorcodes, sql
from sqlalchemy import Connection

from backfill.database.connection import driver, execute, rows
from backfill.database.server_files import local_data_directory
from backfill.prove.search import MARGIN

PIECE = 16 << 20  # bytes in memory at once


class Files(Protocol):
    """Where files are read from. Paths are relative to the data folder, as PostgreSQL names them."""

    @property
    def how(self) -> str:
        """In words, for the report."""

    def names(self, folder: str) -> list[str]:
        """Plain files and folders in *folder*; empty where there is no such folder."""

    def size(self, path: str) -> int:
        """Bytes; 0 for a file that is gone."""

    def read(self, path: str, start: int, length: int) -> bytes:
        """At most *length* bytes from *start*; fewer at the end, none for a file that is gone."""


@dataclass(frozen=True)
class LocalFiles:
    """A data folder on this machine, or a base backup."""

    folder: Path

    @property
    def how(self) -> str:
        """See ``Files``."""
        return "files on this machine"

    def names(self, folder: str) -> list[str]:
        """See ``Files``."""
        try:
            return sorted(entry.name for entry in (self.folder / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, path: str) -> int:
        """See ``Files``."""
        try:
            return (self.folder / path).stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, path: str, start: int, length: int) -> bytes:
        """See ``Files``."""
        try:
            with (self.folder / path).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except (FileNotFoundError, IsADirectoryError):
            return b""


@dataclass(frozen=True)
class ServerFiles:
    """Through ``pg_read_binary_file``, by binary COPY: as text, every byte would be two characters."""

    connection: Connection

    @property
    def how(self) -> str:
        """See ``Files``."""
        return "files through the server"

    def names(self, folder: str) -> list[str]:
        """See ``Files``."""
        return [name for (name,) in rows(self.connection, sql.SQL("select pg_ls_dir(%s, true, false) order by 1"), (folder,))]  # fmt: skip

    def size(self, path: str) -> int:
        """See ``Files``."""
        ((size,),) = rows(self.connection, sql.SQL("select (pg_stat_file(%s, true)).size"), (path,))
        return int(size or 0)

    def read(self, path: str, start: int, length: int) -> bytes:
        """See ``Files``."""
        sink = _Sink()
        statement = sql.SQL(
            "copy (select pg_read_binary_file({}, {}, {}, true)) to stdout (format binary)"
        ).format(sql.Literal(path), sql.Literal(start), sql.Literal(length))
        with driver(self.connection).cursor() as cursor:
            cursor.copy_expert(statement, sink)
        return sink.value()


class _Sink:
    """One field of one row in binary COPY: 19 bytes of header, two of count, four of length."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._parts.append(bytes(data))

    def value(self) -> bytes:
        whole = b"".join(self._parts)
        length = int.from_bytes(whole[21:25], "big", signed=True)
        return whole[25 : 25 + length] if length > 0 else b""


def files_of(connection: Connection) -> Files | None:
    """The way to the files of that server; ``None`` where we have none."""
    folder = local_data_directory(connection)
    if folder is not None:
        return LocalFiles(folder)
    server = ServerFiles(connection)
    try:
        with connection.begin_nested():
            server.names("base")
            server.read("PG_VERSION", 0, 1)
    except psycopg2.Error as error:
        if error.pgcode != errorcodes.INSUFFICIENT_PRIVILEGE:
            raise
        return None
    return server


def checkpoint(connection: Connection) -> bool:
    """Bring what is in shared buffers to the files; whether we were allowed to."""
    try:
        with connection.begin_nested():
            execute(connection, sql.SQL("checkpoint"))
    except psycopg2.Error as error:
        if error.pgcode != errorcodes.INSUFFICIENT_PRIVILEGE:
            raise
        return False
    return True


def pieces(files: Files, path: str, overlap: int = 2 * MARGIN) -> Iterator[tuple[bytes, int, int]]:
    """A file piece by piece, overlapping, with the part of each in which hits may begin: each hit once.

    A hit that begins there lies, with half the *overlap* before and behind it, in that piece.
    """
    size, start = files.size(path), 0
    while start < size:
        begin = max(start - overlap, 0)
        piece = files.read(path, begin, start - begin + PIECE)
        if not piece:
            return
        at_end = begin + len(piece) >= size
        yield piece, 0 if begin == 0 else overlap // 2, len(piece) - (0 if at_end else overlap // 2)
        if len(piece) < start - begin + PIECE:
            return
        start = begin + len(piece)
