"""Lock retry: a schema change asks for its lock a moment at a time, and tries again.

A request that waits for a strong lock queues everybody else behind it: no wait may be long. But an autovacuum
gives way only to whoever has waited for it for ``deadlock_timeout`` (1 s as shipped), longer than we wait; asked
for a fraction of a second at a time, it runs to its end, which on a large table is hours. So it is sent
away first, by a lock that only vacuums and schema changes conflict with: everybody else goes on meanwhile.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from psycopg2 import errorcodes, sql
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from backfill.database import verbatim
from backfill.database.connection import driver, execute, rows, sqlstate_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.quoting import quoted_table, table
from backfill.raw_column import Table

ATTEMPTS = 20  # about a minute of jittered tries
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds, upper bounds of a random pause
AGAIN = {errorcodes.LOCK_NOT_AVAILABLE, errorcodes.DEADLOCK_DETECTED, errorcodes.SERIALIZATION_FAILURE}

LONGER_MS = 500  # than deadlock_timeout: for the autovacuum to hear of it, and to end
NOT_GIVEN = {errorcodes.LOCK_NOT_AVAILABLE, errorcodes.INSUFFICIENT_PRIVILEGE}

REFERENCED = sql.SQL("""
    select distinct format('%I.%I', n.nspname, c.relname)
      from pg_constraint as con join pg_class as c on c.oid = con.confrelid join pg_namespace as n on n.oid = c.relnamespace
     where con.contype = 'f' and con.conrelid = to_regclass({})
""")

WAITS = """
    select current_setting('lock_timeout'), setting::int from pg_catalog.pg_settings where name = 'deadlock_timeout'
"""

# A prepared transaction has no session, and stays for ever.
IN_THE_WAY = """
    with held as (
        select pid, virtualtransaction from pg_catalog.pg_locks
         where relation = {table} and granted
           and database = (select oid from pg_catalog.pg_database where datname = current_database())
    )
    select activity.pid, coalesce(activity.application_name, ''), coalesce(activity.usename, ''),
           coalesce(activity.state, ''), extract(epoch from clock_timestamp() - activity.xact_start)::bigint
      from held join pg_catalog.pg_stat_activity as activity using (pid)
     where activity.pid <> pg_backend_pid() and {others}
    union
    select null, quote_literal(prepared.gid), prepared.owner, '', extract(epoch from clock_timestamp() - prepared.prepared)::bigint
      from held
      join pg_catalog.pg_locks as own on own.pid is null and own.virtualtransaction = held.virtualtransaction
      join pg_catalog.pg_prepared_xacts as prepared on prepared.transaction = own.transactionid
     where held.pid is null
     order by 5 desc nulls last limit 3
"""
PREPARED = "prepared transaction {gid} (for {seconds} s; `rollback prepared` or `commit prepared` ends it)"

Result = TypeVar("Result")


def lock_was_refused(error: BaseException) -> bool:
    """Whether the same transaction may get its lock a moment later."""
    return isinstance(error, DRIVER_ERRORS) and sqlstate_of(error) in AGAIN


def lock_attempts(
    busy: Callable[[RetryCallState], None] | None = None,
    *,
    attempts: int | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Retrying:
    """The one loop: ``for attempt in lock_attempts(…): with attempt: …``.

    *busy* is called before every further try, and *sleep* waits for it. Raises the driver's error after the last.
    """
    return Retrying(
        retry=retry_if_exception(lock_was_refused),
        stop=stop_after_attempt(attempts or ATTEMPTS),
        wait=wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
        before_sleep=busy,
        sleep=sleep or time.sleep,
        reraise=True,
    )


def say_busy(
    name: str, tell: Callable[[str], object], in_the_way: Callable[[], str] | None = None
) -> Callable[[RetryCallState], None]:
    """What the loop says between two tries: that *name* is busy, and who is in the way, where that can be asked."""

    def say(state: RetryCallState) -> None:
        who = f" In the way: {in_the_way()}." if in_the_way else ""
        tell(
            f"{name} is busy; trying again ({state.attempt_number} of {ATTEMPTS}).{who} Nothing is held meanwhile."
        )

    return say


def lock_holders(connection: Connection, relation: str, *, others: bool = False) -> str:
    """The sessions and prepared transactions with a lock on a table, oldest first; never what they run.

    *relation* is an SQL expression, an oid or a regclass; asked through any driver. *others*: none of ours.
    """
    who = "activity.application_name <> 'backfill'" if others else "true"
    return "; ".join(
        PREPARED.format(gid=name, seconds=seconds)
        if pid is None
        else f"session {pid} ({name or 'unnamed'}, {user}, {state or 'state hidden'}"
        + (f", in its transaction for {seconds} s)" if seconds is not None else ")")
        for pid, name, user, state, seconds in verbatim.fetch(
            connection, IN_THE_WAY.format(table=relation, others=who)
        )
    )


def with_referenced(engine: Engine, part: Table) -> list[sql.Composable]:
    """The table and those that its foreign keys point at: to add or drop one locks both."""
    with engine.begin() as connection:
        others = rows(connection, REFERENCED.format(sql.Literal(quoted_table(part))))
    return [table(part), *(sql.SQL(name) for (name,) in others)]


def send_vacuum_away(connection: Connection, tables: Iterable[sql.Composable]) -> None:
    """Cancel the autovacuum of these tables, where there is one, and keep others away until the transaction ends.

    It is no trouble when that fails: a VACUUM that somebody typed, or one against wraparound, stays; and
    for a table of somebody else the right may be missing.
    """
    keep_vacuum_away(connection, [one.as_string(driver(connection)) for one in tables])


def keep_vacuum_away(connection: Connection, tables: Iterable[str]) -> None:
    """The same for quoted names, through any driver."""
    ((usual, milliseconds),) = verbatim.fetch(connection, WAITS)
    verbatim.run(connection, f"set local lock_timeout = '{milliseconds + LONGER_MS}ms'")
    for one in tables:
        savepoint = connection.begin_nested()
        try:
            verbatim.run(connection, f"lock table {one} in share update exclusive mode")
        except DBAPIError as error:
            savepoint.rollback()
            if sqlstate_of(error) not in NOT_GIVEN:
                raise
        else:
            savepoint.commit()
    verbatim.run(connection, f"set local lock_timeout = '{usual}'")  # what follows waits as briefly as ever


def patiently(
    engine: Engine,
    timeout_ms: int,
    change: Callable[[Connection], Result],
    tables: Sequence[sql.Composable] = (),
    *,
    busy: Callable[[RetryCallState], None] | None = None,
    attempts: int | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Result:
    """Run *change*, which needs strong locks of *tables*, in a transaction of its own, as often as it takes.

    Raises the driver's error after the last try.
    """
    for attempt in lock_attempts(busy, attempts=attempts, sleep=sleep):
        with attempt, engine.begin() as connection:
            if tables:  # else *change* is the first to ask anything, and may choose its isolation
                send_vacuum_away(connection, tables)
            execute(connection, sql.SQL("set local lock_timeout = {}").format(sql.Literal(f"{timeout_ms}ms")))
            return change(connection)
    raise AssertionError("unreachable")  # Retrying either returns or raises
