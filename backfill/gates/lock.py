"""Lock: a strong lock asked for a fraction of a second at a time, and who stands in its way.

A waiting ACCESS EXCLUSIVE lock queues every reader and writer behind it. So: wait at most
``BACKFILL_LOCK_TIMEOUT_MS``, give way, try again a jittered moment later. A savepoint gives back
what was waited for, whatever chain we are in.
"""

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from alembic import op
from backfill.database import lock_retry
from backfill.database.lock_retry import (
    keep_vacuum_away,
    lock_attempts,
    lock_holders,
    lock_was_refused,
    say_busy,
)
from backfill.database.quoting import quoted_table
from backfill.errors import BackfillError
from backfill.gates.gate import Gate
from backfill.gates.offline_script import emit, offline, regclass, tell
from backfill.raw_column import Table


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
    statement = f"lock table {quoted_table(part)} in access exclusive mode"
    if offline():
        emit(statement)
        return
    connection = op.get_bind()

    def holders() -> str:
        return lock_holders(connection, regclass(part)) or "it has just gone"

    try:
        for attempt in lock_attempts(say_busy(part.name, tell, holders)):
            with attempt, connection.begin_nested():
                keep_vacuum_away(connection, [quoted_table(part)])
                emit(statement)
    except DBAPIError as error:
        if not lock_was_refused(error):
            raise
        raise TableStaysBusy(table=part.name, attempts=lock_retry.ATTEMPTS, holders=holders()) from error
