"""Kinds: what the values of a raw column can become. A kind is a module for writing, listed here, and one for judging.

The judges are listed in ``verify.judges``: what checks a kind imports nothing of what writes it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from backfill.errors import PlanInvalid
from backfill.jobs.in_place import HashWriter, NetworkWriter, NothingWriter, PseudonymWriter
from backfill.jobs.into import IntoWriter
from backfill.jobs.link import LinkWriter
from backfill.jobs.writer import Writer
from backfill.plan import INTO, LINK, Job, Plan

# By the value of ``becomes`` in a plan; with ``into`` it is a kind of its own.
WRITERS: Mapping[str, Callable[[Any, str], Writer]] = {
    LINK: LinkWriter,
    "hash": HashWriter,
    "pseudonym": PseudonymWriter,
    "network": NetworkWriter,
    "nothing": NothingWriter,
    INTO: IntoWriter,
}


def writer_of(job: Job, schema: str) -> Writer:
    """What writes the rows of that job, of a kind that ``require_known`` has let in. *schema*: of the ledger."""
    return WRITERS[job.kind](job, schema)


def require_known(plan: Plan, source: object) -> None:
    """Raises ``PlanInvalid`` for a kind that is not listed; *source*: where the plan comes from."""
    for number, job in enumerate(plan.jobs):
        if job.kind not in WRITERS:
            names = ", ".join(kind for kind in WRITERS if kind != INTO)
            raise PlanInvalid(path=source, problem=f"jobs.{number}.becomes: Input should be one of: {names}")
