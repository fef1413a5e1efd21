"""Guard trigger: what it is called."""

from backfill.job_id import helper_name
from backfill.plan import DroppingJob

GUARD = "zz_backfill_guard"  # triggers fire in the order of their names: after whatever fills the row


def guard_trigger(job: DroppingJob) -> str:
    """What the guard of that job is called."""
    return helper_name(GUARD, job.raw, job.identity)
