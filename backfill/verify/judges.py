"""Judges: who proves what has become of a raw column, by kind of job. A kind is one line here and one in ``jobs.kinds``."""

from collections.abc import Callable, Mapping
from typing import Any

from backfill.plan import IN_PLACE, INTO, LINK, Job
from backfill.verify.events import EventVerifier
from backfill.verify.in_place import InPlaceJudge
from backfill.verify.into import IntoJudge
from backfill.verify.judge import Ground, Judge

# By the value of ``becomes`` in a plan; with ``into`` it is a kind of its own.
JUDGES: Mapping[str, Callable[[Ground, Any], Judge]] = {
    LINK: EventVerifier.of,
    **dict.fromkeys(IN_PLACE, InPlaceJudge.of),
    INTO: IntoJudge.of,
}


def judge_of(ground: Ground, job: Job) -> Judge:
    """What judges the rows of that job."""
    return JUDGES[job.kind](ground, job)
