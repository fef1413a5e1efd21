"""Guard trigger: what it is called."""

from backfill.job_id import helper_name
from backfill.raw_column import RawColumn

GUARD = "zz_backfill_guard"  # triggers fire in the order of their names: after whatever fills the row


def guard_trigger(job: RawColumn) -> str:
    """What the guard of that job is called."""
    return helper_name(GUARD, job.raw_column, job.identity)
