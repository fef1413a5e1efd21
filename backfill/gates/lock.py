"""Lock: a strong lock asked for a fraction of a second at a time, and who stands in its way.

A waiting ACCESS EXCLUSIVE lock queues every reader and writer behind it. So: wait at most
``BACKFILL_LOCK_TIMEOUT_MS``, give way, try again a jittered moment later. A savepoint gives back
what was waited for, whatever chain we are in.
"""

import random
import time

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from alembic import op
from backfill.database.connection import sqlstate_of
from backfill.database.lock_retry import keep_vacuum_away
from backfill.errors import BackfillError
from backfill.gates.gate import Gate
from backfill.gates.offline_script import ask, emit, offline, regclass, table, tell
from backfill.plan import Table

LOCK_NOT_AVAILABLE = "55P03"
ATTEMPTS = 20
LONGEST_PAUSE = 5.0  # seconds; the pauses of all attempts come to about a minute

IN_THE_WAY = """
    select distinct activity.pid, coalesce(activity.application_name, ''), coalesce(activity.usename, ''),
           coalesce(activity.state, ''), extract(epoch from clock_timestamp() - activity.xact_start)::bigint
      from pg_locks as held join pg_stat_activity as activity using (pid)
     where held.relation = {table} and held.granted and held.pid <> pg_backend_pid()
     order by 5 desc nulls last limit 3
"""


class TableStaysBusy(BackfillError, CommandError):
    """{table} could not be locked in {attempts} tries. In the way: {holders}. Nothing of this revision was done; those
    before it stay. End that session or wait for it, then run the same command again; it goes on from there."""

    exit_code = 1


def timeout(gate: Gate) -> None:
    """Wait no longer than this for locks, in this revision. A plain SET would leak into the next."""
    emit(f"set local lock_timeout = '{gate.lock_timeout_ms}ms'")


def lock(gate: Gate, part: Table) -> None:
    """Take ACCESS EXCLUSIVE on that table, patiently. Raises ``TableStaysBusy``."""
    timeout(gate)
    statement = f"lock table {table(part)} in access exclusive mode"
    if offline():
        emit(statement)
        return
    connection = op.get_bind()
    for attempt in range(1, ATTEMPTS + 1):
        savepoint = connection.begin_nested()
        try:
            keep_vacuum_away(connection, [table(part)])
            emit(statement)
        except DBAPIError as error:
            savepoint.rollback()
            if sqlstate_of(error) != LOCK_NOT_AVAILABLE:
                raise
            holders = in_the_way(part)
            if attempt == ATTEMPTS:
                raise TableStaysBusy(table=part.name, attempts=ATTEMPTS, holders=holders) from error
            tell(
                f"{part.name} is busy; trying again ({attempt} of {ATTEMPTS}). In the way: {holders}."
                " Nothing is held meanwhile."
            )
            time.sleep(random.uniform(0.1, min(LONGEST_PAUSE, 0.2 * 1.4**attempt)))  # noqa: S311 (no secret)
        else:
            savepoint.commit()
            return


def in_the_way(part: Table) -> str:
    """The sessions that hold a lock on that table, oldest transaction first; never what they run."""
    found = [
        f"session {pid} ({name or 'unnamed'}, {user}, {state or 'state hidden'}"
        + (f", in its transaction for {seconds} s)" if seconds is not None else ")")
        for pid, name, user, state, seconds in ask(IN_THE_WAY.format(table=regclass(part)))
    ]
    return "; ".join(found) or "it has just gone"
