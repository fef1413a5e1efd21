"""The embedded server's life: started when somebody needs it, shared, repaired after a crash, stopped."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 -- the driver's own class, by its name

from backfill.database.session import connect
from backfill.embedded.access import write_rules
from backfill.embedded.binaries import Binaries
from backfill.embedded.folders import HALF, PORT, Folders, locked
from backfill.embedded.marked import FOLDER
from backfill.embedded.postmaster import Postmaster
from backfill.embedded.user import account_name, server_uid
from backfill.errors import EmbeddedServerFailed
from backfill.files import NotPlain, empty_home, read_plain

ROLE = "backfill"
DATABASE = "backfill"
START_SECONDS = 600.0  # recovery after a crash replays up to max_wal_size; it says so in the log
ORPHAN_SECONDS = 120.0  # a backend of a killed server finishes its statement before it looks up
POLL_SECONDS = 0.02
RETRY_SECONDS = 0.5

# What PostgreSQL says when another server holds the folder, or the processes of a killed one still do.
STILL_HELD = ("already exists", "is empty", "pre-existing shared memory block")
# What a server says that is up but not yet, or no longer, taking sessions.
BETWEEN_LIVES = "the database system is"


@dataclass(frozen=True)
class ServerStatus:
    """What is there. *version* is the server's ("18.6"), or the data's major ("18") while it is stopped."""

    running: bool
    pid: int | None
    version: str | None
    data: Path
    socket: Path
    log: Path


class EmbeddedServer:
    """The PostgreSQL in ``<home>/postgres``. Every method may be called from any number of processes."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def ensure(self) -> str:
        """Start the server if need be, create the database if missing; returns its SQLAlchemy URL.

        Raises ``EmbeddedServerMissing`` or ``EmbeddedServerFailed``.
        """
        with self._running() as folders:
            with closing(_connect(folders)) as session:
                _create_database(session, DATABASE)
            return _url(folders, DATABASE)

    def stop(self) -> bool:
        """Shut the server down, ending its sessions; False when it was not running."""
        with self._one_line_errors():
            if not Folders.look(self.home).own.exists():
                return False
            with locked(self.home):
                folders = Folders.look(self.home)
                stopped = Postmaster(folders.data).stop()
                folders.tidy()
                return stopped

    def remove(self) -> None:
        """Stop the server and remove its folders, data and all."""
        with self._one_line_errors():
            if Folders.look(self.home).own.exists():
                with locked(self.home):
                    folders = Folders.look(self.home)
                    Postmaster(folders.data).stop()
                    folders.remove()
                empty_home(self.home)

    def status(self) -> ServerStatus:
        """What is there; changes nothing and waits for nobody."""
        with self._one_line_errors():
            folders = Folders.look(self.home)
            pid = Postmaster(folders.data).pid()
            version = self._answer(folders) if pid else None
            return ServerStatus(
                running=version is not None,
                pid=pid,
                version=version or _major_of(folders.data),
                data=folders.data,
                socket=folders.socket,
                log=folders.log,
            )

    def url(self, database: str = DATABASE) -> str:
        """The SQLAlchemy URL of *database*, without starting anything."""
        with self._one_line_errors(), locked(self.home):
            return _url(Folders.make(self.home), database)

    def recreate_database(self, name: str = DATABASE) -> None:
        """Drop database *name*, ending its sessions, and create it anew; starts the server if need be."""
        with (
            self._running() as folders,
            closing(_connect(folders)) as session,
            session.cursor() as cursor,
        ):
            cursor.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
            _create_database(session, name)

    @contextmanager
    def _running(self) -> Iterator[Folders]:
        """The server runs, and nobody stops it meanwhile."""
        with self._one_line_errors(), locked(self.home):
            folders = Folders.make(self.home)
            self._start(folders)
            yield folders

    def _start(self, folders: Folders) -> None:
        """Bring the server to the point where it answers. Under the lock, so nobody else is starting it."""
        postmaster = Postmaster(folders.data)
        launched: int | None = None
        log_began = 0
        deadline = time.monotonic() + START_SECONDS
        orphans_deadline = time.monotonic() + ORPHAN_SECONDS
        while self._answer(folders) is None:
            if time.monotonic() > deadline:
                raise self._failed(f"does not answer after {START_SECONDS:.0f} s. Its log: {folders.log}")
            if postmaster.pid() or (launched and postmaster.is_alive(launched)):
                time.sleep(POLL_SECONDS)  # it is starting or recovering, perhaps for a client that was killed
                continue
            if launched:
                reason = _reason(folders.log, log_began)
                held = any(words in reason for words in STILL_HELD)
                if not held or time.monotonic() > orphans_deadline:
                    raise self._failed(f"does not start: {reason}. Its log: {folders.log}")
                postmaster.end_orphans(folders.user)
                time.sleep(RETRY_SECONDS)
            binaries = Binaries.find().within_reach_of(folders.user, folders.binaries)
            self._make_data(folders, binaries)
            postmaster.clear_stale(folders.socket)
            log_began = folders.log.stat().st_size if folders.log.exists() else 0
            launched = postmaster.launch(binaries, folders)

    def _make_data(self, folders: Folders, binaries: Binaries) -> None:
        """Create the data folder where there is none; whole or not at all, since initdb may be killed."""
        data = folders.data
        major = _major_of(data)
        if major == str(binaries.major):
            return
        if major is not None:
            raise self._failed(
                f"holds data of PostgreSQL {major}, and the programs found are {binaries.version}. "
                f"Install those of {major}, or remove {data} to begin anew."
            )
        if (data / "global" / "pg_control").exists():
            raise self._failed(f"is damaged: {data} has lost its PG_VERSION. Remove it to begin anew.")
        if data.exists():
            try:
                data.rmdir()  # initdb works elsewhere, so whatever is in it is not from us
            except OSError:
                raise self._failed(f"cannot use {data}: it is not empty and holds no PostgreSQL.") from None
        folders.clear_halves()
        half = Path(tempfile.mkdtemp(prefix=HALF, dir=folders.ground))
        descriptor = os.open(half, FOLDER)
        try:
            folders.user.give(descriptor)
        finally:
            os.close(descriptor)
        made = folders.user.run(
            binaries.folder / "initdb",
            *("--pgdata", half, "--username", ROLE, "--auth-local", "peer", "--auth-host", "reject"),
            *("--encoding", "UTF8", "--locale", "C", "--no-instructions"),
        )
        if made.returncode != 0:
            folders.clear_halves()
            raise self._failed(f"could not be created: {_last_line(made.stderr)}")
        write_rules(half, folders.user, binaries.major, ROLE)
        half.rename(data)
        # An initdb whose client was killed outlives it, and may have written into its half while we removed that.
        folders.clear_halves()

    def _answer(self, folders: Folders) -> str | None:
        """The version of the running server; None when it does not answer, or not yet."""
        try:
            with closing(_connect(folders)) as session, session.cursor() as cursor:
                cursor.execute("select current_setting('data_directory'), current_setting('server_version')")
                data, version = cursor.fetchone() or ("", "")
        except psycopg2.OperationalError as error:
            said = " ".join(str(error).split())
            if "FATAL" in said and BETWEEN_LIVES not in said:
                raise self._failed(f"refuses our session: {said}") from error
            return None
        if Path(data) != folders.data:
            raise self._failed(f"is not what answers in {folders.socket}.")
        return str(version).split(" ")[0]

    def _failed(self, problem: str) -> EmbeddedServerFailed:
        return EmbeddedServerFailed(home=self.home, problem=problem)

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg2.Error as error:
            raise self._failed(f"answered with an error: {_last_line(str(error))}") from error
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise self._failed(f"cannot be used: {error.strerror or error}{where}") from error


def _connect(folders: Folders) -> Connection:
    # libpq asks the kernel who serves the socket, and refuses anybody but the server's account.
    session: Connection
    session, _ = connect(
        host=str(folders.socket),
        port=PORT,
        user=ROLE,
        dbname="postgres",
        requirepeer=account_name(server_uid()) or "",
    )
    session.autocommit = True  # databases are created outside transactions
    return session


def _create_database(session: Connection, name: str) -> None:
    with session.cursor() as cursor:
        cursor.execute("select 1 from pg_database where datname = %s", [name])
        if cursor.fetchone() is None:
            cursor.execute(
                sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(ROLE))
            )
            # The ledger's schema has the name of the role. By the usual path ("$user", public), a table that somebody
            # makes with psql after the first run would lie in it.
            cursor.execute(sql.SQL("alter database {} set search_path = public").format(sql.Identifier(name)))


def _url(folders: Folders, database: str) -> str:
    # Quoted here: SQLAlchemy writes a space as "+", which libpq and psql do not read as one. With the
    # port, or PGPORT would decide it.
    host = quote(os.fsencode(folders.socket), safe="")
    return f"postgresql+psycopg2://{ROLE}@/{database}?host={host}&port={PORT}"


def _major_of(data: Path) -> str | None:
    """The major version that made *data* ("18"); None where there is no complete data folder."""
    try:
        content, _ = read_plain(data / "PG_VERSION", 64, links=False)
    except (FileNotFoundError, NotPlain):
        return None
    return content.decode("utf-8", "replace").strip() or None


def _reason(log: Path, began: int) -> str:
    """Why a server gave up: its last FATAL or error since byte *began* of its log."""
    with log.open("rb") as file:
        file.seek(began)
        lines = file.read().decode("utf-8", "replace").splitlines()
    telling = [line for line in lines if "FATAL" in line or "PANIC" in line]
    return _last_line("\n".join(telling or lines)).rstrip(".")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1].strip()
