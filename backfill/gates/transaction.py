"""Transaction: what a gate needs of the one that its revision runs in, and the settings that come back after it.

Alembic may run several revisions in one transaction, its default, and a chain that is not ours may open one of
its own. ``SET LOCAL`` lasts until that transaction ends, and so does every lock.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import ParamSpec

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from alembic import op
from backfill.database.connection import sqlstate_of
from backfill.database.quoting import quoted
from backfill.errors import BackfillError
from backfill.gates.offline_script import ask, emit, literal, offline, tell

NO_TRANSACTION = "25P01"

# The application's session is as it likes it. Whatever changes the meaning of a gate's statements, or ends
# them early, is set for as long as the gate lasts; None: only given back, for what is set on the way.
SETTINGS: Mapping[str, str | None] = {
    "standard_conforming_strings": "on",  # off, a backslash in a literal is an escape
    "transform_null_equals": "off",
    "timezone": "UTC",  # max(time)::text is compared with what verify recorded
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "row_security": "off",  # a policy raises instead of hiding rows
    "statement_timeout": "0",  # a scan takes as long as it takes; what waits for a lock has its own timeout
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": None,
}
# For questions alone: a change of the application's table may fire an event trigger of its own, which needs its path.
PATH: Mapping[str, str | None] = {"search_path": "pg_catalog, pg_temp"}

ENV_PY = "context.configure(…, transaction_per_migration=True)"

STRONG = """
    select format('%I.%I', n.nspname, c.relname)
      from pg_catalog.pg_locks as held
      join pg_catalog.pg_class as c on c.oid = held.relation
      join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
     where held.pid = pg_backend_pid() and held.granted and held.locktype = 'relation'
       and held.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
       and c.relkind in ('r', 'p') and c.relpersistence <> 't'
       and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
       and c.oid is distinct from to_regclass({version_table})
     order by 1 limit 1
"""

Words = ParamSpec("Words")


class TransactionUnfit(BackfillError, CommandError):
    """{change} refuses: {problem}"""


class Needs(Enum):
    """What a change needs of its transaction."""

    OWN = "own"  # nothing else in it: its lock would be held while rows are read, or the other way round
    NO_LOCK = "no lock"  # it reads rows: nobody may wait meanwhile. Its own lock is held to the end of the transaction
    ANY = "any"  # it reads nothing


def gated(needs: Needs) -> Callable[[Callable[Words, None]], Callable[Words, None]]:
    """Run a change under the settings of a gate; afterwards, and after an error, the application's are back."""

    def decorate(change: Callable[Words, None]) -> Callable[Words, None]:
        @functools.wraps(change)
        def run(*words: Words.args, **named: Words.kwargs) -> None:
            with _savepoint(change.__name__), temporarily(SETTINGS):
                _require(needs, change.__name__)
                change(*words, **named)

        return run

    return decorate


@contextmanager
def temporarily(settings: Mapping[str, str | None]) -> Iterator[None]:
    """Set these until the end of the block. An error leaves them to the savepoint around the change."""
    wanted = ", ".join(
        f"({literal(name)}, {literal('backfill.was_' + name)}, {literal(value) if value else 'null'})"
        for name, value in settings.items()
    )
    # No operator in it: the path that would find it is what is being set. Servers differ in what they know.
    loop = (
        "declare one record; begin for one in select * from"
        f" (values {wanted}) as wanted (name, was, value) loop"
        " if pg_catalog.current_setting(one.name, true) is not null then {}; end if; end loop; end"
    )
    remember = (
        "perform pg_catalog.set_config(one.was, pg_catalog.current_setting(one.name), true);"
        " if one.value is not null then perform pg_catalog.set_config(one.name, one.value, true); end if"
    )
    give_back = "perform pg_catalog.set_config(one.name, pg_catalog.current_setting(one.was), true)"
    emit(f"do $settings$ {loop.format(remember)} $settings$")
    yield
    emit(f"do $settings$ {loop.format(give_back)} $settings$")


@contextmanager
def _savepoint(change: str) -> Iterator[None]:
    if offline():
        yield
        return
    try:
        savepoint = op.get_bind().begin_nested()
    except DBAPIError as error:
        if sqlstate_of(error) != NO_TRANSACTION:
            raise
        raise TransactionUnfit(
            change=change,
            problem="this chain runs outside a transaction (AUTOCOMMIT). A gate and its change have to be one"
            " transaction: call it outside autocommit_block(), on a connection that is not AUTOCOMMIT.",
        ) from None
    with savepoint:
        yield


def _require(needs: Needs, change: str) -> None:
    shared = _shared()
    if needs is Needs.OWN and shared:
        raise TransactionUnfit(
            change=change,
            problem=f"{shared}, and its lock would keep everybody from a table whose rows are read meanwhile."
            f" Give each revision a transaction of its own; in env.py: {ENV_PY}.",
        )
    if needs is Needs.ANY or offline():
        return
    with temporarily(PATH):
        held = ask(STRONG.format(version_table=literal(_version_table())))
    if held:
        raise TransactionUnfit(
            change=change,
            problem=f"this transaction holds a lock of {held[0][0]} already, and others would wait for it while rows are"
            f" read. Write one change a revision, and give each a transaction of its own; in env.py: {ENV_PY}.",
        )
    if shared:
        tell(
            f"{change}: {shared}. Its table stays locked (ACCESS EXCLUSIVE: no reader, no writer) until"
            f" all of them are committed. Not with this in env.py: {ENV_PY}"
        )


def _shared() -> str | None:
    """Why what a revision locks may stay locked after it; ``None``: its transaction is its own."""
    where = op.get_context()
    if getattr(where, "_in_external_transaction", False):
        return (
            "a transaction was open before the first revision began (commit what env.py executes before"
            " context.configure)"
        )
    if not where.opts.get("transaction_per_migration"):
        return "all pending revisions run in one transaction"
    return None


def _version_table() -> str:
    where = op.get_context()
    return quoted(*(name for name in (where.version_table_schema, where.version_table) if name))
