"""What of a driver's error may be repeated: nothing that may hold a value of a row, or a password.

Messages are in the server's language (``lc_messages`` is not ours to set), so nothing reads them.
"""

import psycopg2
from psycopg2 import errorcodes
from sqlalchemy.exc import DBAPIError

DRIVER_ERRORS = (
    DBAPIError,
    psycopg2.Error,
)  # what a statement may raise: through SQLAlchemy, or past it (COPY)

# The server's own words are shown for these: they name objects, locks and limits, never a value. A function
# or trigger may raise them as well, in words of its own; its errors come with a context.
OWN_WORDS = frozenset(
    {
        errorcodes.SERIALIZATION_FAILURE,
        errorcodes.DEADLOCK_DETECTED,
        errorcodes.LOCK_NOT_AVAILABLE,
        errorcodes.QUERY_CANCELED,
        errorcodes.ADMIN_SHUTDOWN,
        errorcodes.CRASH_SHUTDOWN,
        errorcodes.CANNOT_CONNECT_NOW,
        errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        errorcodes.READ_ONLY_SQL_TRANSACTION,
        errorcodes.NO_ACTIVE_SQL_TRANSACTION,
        errorcodes.ACTIVE_SQL_TRANSACTION,
        errorcodes.IN_FAILED_SQL_TRANSACTION,
        errorcodes.TOO_MANY_CONNECTIONS,
        errorcodes.DISK_FULL,
        errorcodes.OUT_OF_MEMORY,
        errorcodes.CONFIGURATION_LIMIT_EXCEEDED,
        errorcodes.INSUFFICIENT_PRIVILEGE,
        errorcodes.UNDEFINED_TABLE,
        errorcodes.UNDEFINED_COLUMN,
        errorcodes.UNDEFINED_FUNCTION,
        errorcodes.UNDEFINED_OBJECT,
        errorcodes.INVALID_SCHEMA_NAME,
        errorcodes.INVALID_CATALOG_NAME,
        errorcodes.DUPLICATE_TABLE,
        errorcodes.DUPLICATE_OBJECT,
        errorcodes.DUPLICATE_COLUMN,
        errorcodes.WRONG_OBJECT_TYPE,
        errorcodes.DEPENDENT_OBJECTS_STILL_EXIST,
    }
)

# Where PostgreSQL itself finds a constraint violated, and says which, also from within a function. Only there
# are the names its own: ``raise … using constraint = …`` puts any text in their place.
VIOLATIONS = frozenset(
    {
        "execMain.c",
        "execExprInterp.c",
        "execIndexing.c",
        "execPartition.c",
        "domains.c",
        "nbtinsert.c",
        "tablecmds.c",
        "heapam_handler.c",
        "ri_triggers.c",
        "tuplesortvariants.c",
        "tuplesort.c",
    }
)


def sqlstate_of(error: BaseException) -> str | None:
    """The five-character code of a driver error, wrapped or not; None for a lost connection."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return getattr(origin, "pgcode", None) or getattr(origin, "sqlstate", None)  # psycopg 3 has the second


def problem_of(error: BaseException) -> str:
    """A driver error in one line: the server's words where they can hold no value; else its condition and names."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = sqlstate_of(error)
    if state is None:
        return _without_state(origin or error)
    diagnostics = getattr(origin, "diag", None)
    context = getattr(diagnostics, "context", None)
    primary = getattr(diagnostics, "message_primary", None)
    if primary and state in OWN_WORDS and context is None:
        return " ".join(primary.split())
    named = (
        _names(diagnostics)
        if context is None or getattr(diagnostics, "source_file", None) in VIOLATIONS
        else []
    )
    return ", ".join([condition(state), *named])


def condition(state: str) -> str:
    """What *state* is called: "unique violation"; for a function's own, "an error of its own (P1234)"."""
    try:
        return str(errorcodes.lookup(state)).lower().replace("_", " ")
    except KeyError:
        return f"an error that a function, trigger or extension defines ({state})"


def _names(diagnostics: object) -> list[str]:
    found = [
        (what, getattr(diagnostics, f"{what.replace(' ', '')}_name", None))
        for what in ("constraint", "schema", "table", "column", "data type")
    ]
    return [f"{what} {' '.join(str(name).split())}" for what, name in found if name]


def _without_state(error: BaseException) -> str:
    """Libpq's words: the server is out of reach, or the connection broke. Others are the driver's, about values."""
    broken = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
    if broken or type(error) is psycopg2.DatabaseError or not isinstance(error, psycopg2.Error):
        return " ".join(str(error).split()) or type(error).__name__
    return type(error).__name__
