"""What the built-in plan's jobs are called in the ledger, and our own objects on their tables."""

from backfill.database.guard_trigger import guard_trigger
from backfill.gates import guard as guards
from backfill.plan import PYPI
from backfill.raw_column import find
from backfill.shadow import names as shadows


def identity(table: str) -> str:
    """The identity of that table's job, discard or address column."""
    return str(find(table, PYPI.parts).identity)


def guard(table: str) -> str:
    """The guard trigger of that job."""
    return guard_trigger(PYPI.job(table))


def constraint(table: str) -> str:
    """The CHECK of that job."""
    return guards.constraint(PYPI.job(table))


CHANGES, BLOCKERS = (name(PYPI.job("user_events")) for name in (shadows.log_name, shadows.blockers_name))
