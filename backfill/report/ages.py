"""Whether a raw address is older than it may be, as text and as data."""

from collections.abc import Iterator
from typing import Any

from backfill import escaping
from backfill.age.age import age_text
from backfill.report.document import Block, Note, Tone, table
from backfill.verify.ages import NOT_LOOKED_AT
from backfill.verify.standing import JobAges, Standing

HEADER = [
    "job",
    "after",
    "rows",
    "raw",
    "late",
    "oldest raw",
    "newest",
    "raw without time",
    "ahead",
    "quarantined",
]


def blocks(found: Standing) -> Iterator[Block]:
    """What is late first, then the numbers of each job, then what nobody looked at."""
    body = [
        [
            job.label,
            age_text(job.after),
            job.ages.rows,
            job.ages.raw,
            job.ages.late,
            job.ages.oldest or "-",
            job.ages.newest or "-",
            job.ages.without_time,
            job.ages.ahead,
            job.waiting,
        ]
        for job in found.jobs
    ]
    for job in found.jobs:
        yield Note(_verdict(job, found), Tone.ALARM if job.is_late else Tone.DONE)
    yield table(HEADER, body)
    yield Note(f"Looked at: all rows, by the form of their values. Not looked at: {NOT_LOOKED_AT}.")
    for job in found.jobs:
        yield Note(_erased(job))


def verdict(found: Standing) -> str:
    """The one sentence."""
    late = sum(job.is_late for job in found.jobs)
    return (
        f"Late: {late} of {escaping.counted(len(found.jobs), 'job', 'jobs')}." if late else "Nothing is late."
    )


def _verdict(job: JobAges, found: Standing) -> str:
    limit = age_text(job.after + found.grace)
    if job.is_late:
        return (
            f"Late: {escaping.counted(job.ages.late, 'row', 'rows')} of {job.label} "
            f"{'shows' if job.ages.late == 1 else 'show'} a raw value older than {limit}."
        )
    undated = escaping.counted(job.ages.without_time, "raw row has", "raw rows have")
    aside = f"; {undated} no time, and no age" if job.ages.without_time else ""
    return f"No row of {job.label} shows a raw value older than {limit}{aside}."


def _erased(job: JobAges) -> str:
    if job.erased is None:
        return f"{job.label}: its table was never rewritten by `backfill erase`: earlier values may be in its files."
    return f"{job.label}: `backfill erase` rewrote its table last on {job.erased:%Y-%m-%d %H:%M}; values that changed since may be in its files."


def as_dict(found: Standing) -> dict[str, Any]:
    """The same by stable names."""
    return {
        "late": found.is_late,
        "grace": None if not found.grace else age_text(found.grace),
        "not_looked_at": NOT_LOOKED_AT,
        "jobs": [
            {
                "job": job.label,
                "becomes": job.becomes,
                "after": age_text(job.after),
                "late": job.is_late,
                "asked": job.ages.asked.isoformat(),
                "rows": job.ages.rows,
                "raw_rows": job.ages.raw,
                "late_rows": job.ages.late,
                "oldest_raw": job.ages.oldest,
                "newest": job.ages.newest,
                "raw_rows_without_time": job.ages.without_time,
                "rows_ahead": job.ages.ahead,
                "quarantined_rows": job.waiting,
                "erased": job.erased.isoformat() if job.erased else None,
            }
            for job in found.jobs
        ],
    }
