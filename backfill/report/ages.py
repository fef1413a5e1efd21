"""Whether a raw address is older than it may be, as text and as data."""

from collections.abc import Iterator
from typing import Any

from backfill import escaping
from backfill.age.age import age_text
from backfill.report.document import Block, Cell, Note, Table, Tone, table
from backfill.verify.ages import NOT_LOOKED_AT
from backfill.verify.standing import KEPT_FIX, LIST, JobAges, Standing

DUE = "backfill run --due"
PLAN = "backfill plan"  # which shows how the time is read
BY_PREFIX = "; pseudonyms by their prefix alone, and `backfill verify` checks their tags"
MINUTE = "%Y-%m-%d %H:%M"


def blocks(found: Standing) -> Iterator[Block]:
    """What is late first, then the numbers of each job, then what nobody looked at."""
    for job in found.jobs:
        if job.unknown:
            yield Note(_unknown(job), Tone.ALARM)
        if job.ages.late or not job.unknown:
            yield Note(_verdict(job, found), Tone.ALARM if job.is_late else Tone.DONE)
        if job.ages.kept_late:
            yield Note(_kept(job, found), Tone.ALARM)
    for job in found.jobs:
        yield _table(job, found)
    by_prefix = any(job.becomes == "pseudonym" for job in found.jobs)
    yield Note(
        f"Looked at: all rows, by the form of their values{BY_PREFIX if by_prefix else ''}. Not looked at: {NOT_LOOKED_AT}."
    )
    for job in found.jobs:
        yield Note(_erased(job))


def _table(job: JobAges, found: Standing) -> Table:
    ages, limit = job.ages, age_text(job.after + found.grace)
    body: list[list[object]] = [
        ["rows", ages.rows],
        ["with a raw value", ages.raw],
        [f"of these, older than {limit}: late", Cell(ages.late, Tone.ALARM if ages.late else Tone.PLAIN)],
        ["oldest raw value", ages.oldest or "none"],
        ["newest row", ages.newest or "none"],
        ["raw values without a time, never due", ages.without_time],
        ["rows more than a day in the future", ages.ahead],
    ]
    if job.keeps:
        late = Cell(ages.kept_late, Tone.ALARM if ages.kept_late else Tone.PLAIN)
        body += [
            ["texts that are no address, kept by the plan", ages.kept],
            [f"of these, older than {limit}, and an address may stand in them", late],
        ]
    if job.waiting or not job.keeps:
        body.append(["rows that wait in the quarantine, of any age", job.waiting])
    body.append(["table rewritten by `backfill erase`", f"{job.erased:{MINUTE}}" if job.erased else "never"])
    caption = f"{job.label}: raw values by age, looked at {ages.asked:%Y-%m-%d %H:%M:%S %Z}"
    return table(["what", "found"], body, caption=caption, right=["found"])


def following(found: Standing) -> tuple[str, ...]:
    """What to type next."""
    commands = {command for job in found.jobs for command in commands_of(job)}
    return tuple(command for command in (PLAN, DUE, LIST) if command in commands)


def commands_of(job: JobAges) -> tuple[str, ...]:
    """What helps one job: a run does nothing about texts that are kept, nor about rows that wait in the quarantine."""
    if job.unknown:  # a run would stop
        return (PLAN,)
    if not job.ages.late:
        return ()
    return (DUE, LIST) if job.waiting else (DUE,)


def verdict(found: Standing) -> str:
    """The one sentence."""
    late = sum(job.is_late for job in found.jobs)
    unknown = sum(job.unknown for job in found.jobs)
    jobs = escaping.counted(len(found.jobs), "job", "jobs")
    said = [f"Late: {late} of {jobs}."] * bool(late)
    said += [f"Too many rows in the future to know what is late: {unknown} of {jobs}."] * bool(unknown)
    return " ".join(said) or "Nothing is late."


def standing_text(job: JobAges, found: Standing) -> str:
    """What a gate and a list of what is left say of one job: late or not, and what is late."""
    said = [_unknown(job)] if job.unknown else []
    if job.ages.late or not job.unknown:
        said.append(_verdict(job, found))
    return " ".join([*said, *([_kept(job, found)] if job.ages.kept_late else [])])


def _unknown(job: JobAges) -> str:
    rows = escaping.counted(job.ages.ahead, "row", "rows")
    return (
        f"{rows} of {job.label}, of {job.ages.rows:,}, {'is' if job.ages.ahead == 1 else 'are'} more than a day in the future, "
        f"and nothing is known of their age: {job.ahead_fix}."
    )


def _verdict(job: JobAges, found: Standing) -> str:
    limit = age_text(job.after + found.grace)
    if job.ages.late:
        return (
            f"Late: {escaping.counted(job.ages.late, 'row', 'rows')} of {job.label} "
            f"{'shows' if job.ages.late == 1 else 'show'} a raw value older than {limit}."
        )
    undated = escaping.counted(job.ages.without_time, "raw row has", "raw rows have")
    aside = f"; {undated} no time, and no age" if job.ages.without_time else ""
    if job.ages.ahead:
        aside += f"; {escaping.counted(job.ages.ahead, 'row is', 'rows are')} more than a day in the future"
    return f"No row of {job.label} shows a raw value older than {limit}{aside}."


def _kept(job: JobAges, found: Standing) -> str:
    number = escaping.counted(job.ages.kept_late, "row", "rows")
    return (
        f"Late: {number} of {job.label} older than {age_text(job.after + found.grace)} "
        f"{'keeps' if job.ages.kept_late == 1 else 'keep'} a text that is no address and may hold one; no run changes it: {KEPT_FIX}."
    )


def _erased(job: JobAges) -> str:
    if job.erased is None:
        return (
            f"{job.label}: its table was never rewritten by `backfill erase`: earlier values may be in its files. "
            "A retention that never erases has not erased anything."
        )
    return f"{job.label}: `backfill erase` rewrote its table last on {job.erased:{MINUTE}}; values that changed since may be in its files."


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
                "too_many_ahead": job.unknown,
                "kept_unreadable_rows": job.ages.kept,
                "late_kept_unreadable_rows": job.ages.kept_late,
                "quarantined_rows": job.waiting,
                "erased": job.erased.isoformat() if job.erased else None,
            }
            for job in found.jobs
        ],
    }
