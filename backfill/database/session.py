"""Opens every connection of ours, and leaves nothing to the shell, the role or the database.

A setting of the role (``ALTER ROLE … SET``), of the database (``ALTER DATABASE … SET``) or of the shell
(``PGOPTIONS``, ``PGTZ``, …) may change what a statement means or what a driver makes of its result. So each
session sets what it depends on, as far as an ordinary role may set it and this server knows it.

- **Where** a connection leads follows the URL. What the URL leaves out, libpq takes from its variables and
  from the service that ``PGSERVICE`` names (user, port, password, certificates), as for every other client.
  ``PGHOSTADDR``, ``PGOPTIONS``, ``PGCLIENTENCODING`` and ``PGTARGETSESSIONATTRS`` have no effect: libpq takes
  neither a variable nor a service's line for a parameter that is given, be it empty. ``options`` in the URL
  are kept; what is set here is set after them.
- **Who** we are follows the URL and ``ALTER ROLE … SET role``. A ``role`` set for the whole database does not count.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import errorcodes, sql

from backfill.database import open_sessions, watchdog
from backfill.database.urls import masked
from backfill.errors import SessionUnfit

SAFE_PATH = "pg_catalog, pg_temp"
CONNECT_SECONDS = 10
LEAST_CONNECT_SECONDS = 2  # libpq takes no less
_connect_within: ContextVar[float] = ContextVar("_connect_within", default=CONNECT_SECONDS)

# Ours are the short transactions; a lock we cannot have soon is retried rather than queued for, since
# others queue behind us.
SETTINGS: Mapping[str, str] = {
    "application_name": "backfill",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "10min",
    # A policy raises an error instead of hiding rows from whatever counts, verifies or copies.
    "row_security": "off",
    # How values become text, and text values.
    "TimeZone": "UTC",
    "timezone_abbreviations": "Default",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "xmlbinary": "base64",
    "xmloption": "content",
    # How a statement is read.
    "standard_conforming_strings": "on",
    "escape_string_warning": "on",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    "check_function_bodies": "on",
    "restrict_nonsystem_relation_kind": "",
    # What a transaction is, and how it may end.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "synchronous_commit": "on",
    "exit_on_error": "off",
    "idle_session_timeout": "0",
    # Where new tables lie.
    "default_tablespace": "",
    "temp_tablespaces": "",
    "default_table_access_method": "heap",
    # What is read: how many matches an index gives at most, and how old a statistic may be.
    "gin_fuzzy_search_limit": "0",
    "stats_fetch_consistency": "cache",
    # Plans.
    "jit": "off",
}

# Only a superuser may set these; anything else makes triggers, foreign keys or damaged pages pass unseen.
STRICT: Mapping[str, str] = {
    "session_replication_role": "origin",
    "zero_damaged_pages": "off",
    "ignore_checksum_failure": "off",
}

# The values that PostgreSQL comes with; costs and memory are the administrator's to choose.
PLANNER = r"^enable_|^(plan_cache_mode|geqo|(from|join)_collapse_limit|(debug_parallel|force_parallel)_(query|mode))$"

# Run when the path is ours: nothing but pg_catalog is found. One look at pg_settings, which takes a millisecond.
SET = """
    select set_config(known.name, coalesce(wanted.value, known.boot_val), false)
      from pg_settings as known
      left join unnest(%s::text[], %s::text[]) as wanted (name, value) on lower(known.name) = lower(wanted.name)
     where known.context = 'user'
       and (wanted.name is not null or known.name ~ %s and known.setting <> known.boot_val)
       -- Read-only for the whole server is no habit of a role or database: it steps down, or its disk is full.
       and not (known.name = 'default_transaction_read_only'
                and known.source in ('default', 'configuration file', 'command line'))
"""
ROLES = "select current_user::text, session_user::text"
# A role's own setting wins over the database's, as it does in the server.
ROLE_OF_DATABASE = """
    select not exists (
           select from pg_db_role_setting, unnest(setconfig) as one
            where setrole = (select oid from pg_roles where rolname = session_user)
              and setdatabase in (0, (select oid from pg_database
                                       where datname = current_database()))
              and one like 'role=%'
           )
"""


ELEMENT = re.compile(r'\s*("(?:[^"]|"")*"|[^",\s][^,]*?)\s*(?:,|$)')  # of a search_path


@dataclass(frozen=True)
class Origin:
    """What a session would have had without our settings: what the application's triggers may count on."""

    search_path: str
    time_zone: str
    role: str  # what "$user" in that path stands for

    def without(self, schema: str) -> "Origin":
        """The same, its path without *schema*.

        The usual path begins with "$user". Where the role has the name of the ledger's schema, as in all our examples, an
        application's trigger would find our tables in the place of its own.
        """
        elements = ELEMENT.findall(self.search_path)
        kept = [element for element in elements if self._schema(element) != schema]
        return self if kept == elements else replace(self, search_path=", ".join(kept))

    def _schema(self, element: str) -> str:
        name = element[1:-1].replace('""', '"') if element.startswith('"') else element.lower()
        return self.role if name == "$user" else name


@contextlib.contextmanager
def connecting_within(seconds: float) -> Iterator[None]:
    """In this thread, a server has *seconds* (2 to 10) to take a new connection, unless its URL says how long."""
    before = _connect_within.set(min(CONNECT_SECONDS, max(LEAST_CONNECT_SECONDS, seconds)))
    try:
        yield
    finally:
        _connect_within.reset(before)


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Connection parameters with everything in them that libpq would take from somewhere else."""
    several = "," in str(given.get("host", ""))
    # A primary, whichever it is by now. Not "read-write": that believes default_transaction_read_only.
    target = (
        ("primary" if psycopg2.extensions.libpq_version() >= 140_000 else "read-write") if several else "any"
    )
    defaults = {
        "connect_timeout": math.ceil(_connect_within.get()),
        "target_session_attrs": target,
        "options": "",
        # A line that was cut, rather than closed, is noticed within half a minute instead of two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        "tcp_user_timeout": 30_000,  # the same for a line that is cut while something is on its way
    }
    if given.get("host"):
        defaults["hostaddr"] = ""
    # As a connection parameter: psycopg2 does not notice an encoding that a statement sets.
    return {**defaults, **given, "client_encoding": "utf8"}


def connect(**given: Any) -> tuple[Any, Origin]:
    """A psycopg2 connection with our settings, and what it would have had without them.

    Raises the driver's errors, and ``SessionUnfit``.
    """
    words = parameters(given)
    connection = _reach(words)
    if connection.get_parameter_status("standard_conforming_strings") != "on":
        # The driver looks once, when it connects, and escapes bytes and backslashes accordingly for good. Only then,
        # since a proxy may refuse options.
        connection.close()
        words["options"] = f"{words['options']} -c standard_conforming_strings=on".strip()
        connection = _reach(words)
    watchdog.start()
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            origin = _settle(cursor, connection.server_version, str(given.get("options", "")))
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    return connection, origin


def _reach(words: Mapping[str, Any]) -> Any:
    try:
        return psycopg2.connect(connection_factory=open_sessions.Session, **words)
    except psycopg2.Error as error:  # libpq repeats what it cannot use
        raise type(error)(masked(str(error), words)) from None


def _settle(cursor: Any, version: int, options: str) -> Origin:
    # Before anything that takes time; before anything that looks up a name, the path.
    cursor.execute("set statement_timeout = 0")
    if version >= 170_000:
        cursor.execute("set transaction_timeout = 0")
    cursor.execute("show search_path")
    (path,) = cursor.fetchone()
    cursor.execute("show timezone")
    (zone,) = cursor.fetchone()
    cursor.execute(f"set search_path to {SAFE_PATH}")
    cursor.execute(SET, (list(SETTINGS), list(SETTINGS.values()), PLANNER))
    _end_with_client(cursor)
    cursor.execute(ROLES)
    role, own = cursor.fetchone()
    if "role" not in options and role != own and _says(cursor, ROLE_OF_DATABASE):
        cursor.execute("set role none")
        role = own
    for name, wanted in STRICT.items():
        _require(cursor, name, wanted)
    return Origin(path, zone, role)


def _says(cursor: Any, question: str) -> bool:
    cursor.execute(question)
    return bool(cursor.fetchone()[0])


def _end_with_client(cursor: Any) -> None:
    """A statement whose client was killed ends within seconds, and so do its locks.

    Not every server's system can tell that a client is gone; there the setting is refused.
    """
    with contextlib.suppress(psycopg2.errors.InvalidParameterValue):
        cursor.execute("set client_connection_check_interval = '1s'")


def _require(cursor: Any, name: str, wanted: str) -> None:
    cursor.execute(sql.SQL("show {}").format(sql.Identifier(name)))
    (found,) = cursor.fetchone()
    if found == wanted:
        return
    try:
        cursor.execute(sql.SQL("set {} to {}").format(sql.Identifier(name), sql.Literal(wanted)))
    except psycopg2.Error as error:
        if error.pgcode != errorcodes.INSUFFICIENT_PRIVILEGE:
            raise
        raise SessionUnfit(setting=name, found=found, wanted=wanted) from error
