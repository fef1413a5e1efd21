"""Redefined: jobs whose column was rewritten in place before, under another definition.

What is gone does not come back, and a result that has the form of an address would be taken for one: a hash of a
pseudonym is the hash of nobody's address. Told from the ledger, before the next row is written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backfill import escaping
from backfill.addresses import Reason, canonicalise
from backfill.database.preflight.finding import Finding, blocks, note
from backfill.database.preflight.target import Purpose
from backfill.job_id import JobId
from backfill.plan import InPlaceJob, IntoJob, Job
from backfill.raw_column import Table, Widths

OTHERWISE = blocks("rewritten-otherwise")
BEFORE = note("rewritten-before")

FORM = {"pseudonym": "pseudonyms", "network": "networks", "hash": "hashes", "nothing": "nothing"}


@dataclass(frozen=True)
class Rewritten:
    """Rows of one column that runs rewrote by one earlier definition, from the ledger."""

    job: JobId
    rows: int
    becomes: str
    widths: Widths
    constant: str | None
    key_id: str
    same_hashes: bool  # key id and hash scheme are those of now
    restore_point: str
    geo: object = None  # where places were kept, as a plan says it
    named: JobId | None = None  # what the column was called then


def check(parts: Sequence[Table], rewritten: Sequence[Rewritten], purpose: Purpose) -> Iterator[Finding]:
    """Whether the jobs among *parts* may go on."""
    if purpose in (Purpose.READ, Purpose.REMEDY):
        return
    for job in parts:
        if not isinstance(job, Job):
            continue
        for earlier in rewritten:
            if earlier.job == job.identity and earlier.rows:
                yield _finding(job, earlier)


def _finding(job: Job, earlier: Rewritten) -> Finding:
    subject = f"{job.schema_}.{job.table}.{job.raw}"
    count = f"{earlier.rows:,} {'row' if earlier.rows == 1 else 'rows'} of {job.label}"
    if earlier.named not in (None, job.identity):
        count += f" (then called {escaping.name(str(earlier.named))})"
    said = f"Runs before, under key id {earlier.key_id}, rewrote {count} as {_described(earlier)}"
    reason = _in_the_way(job, earlier)
    if reason is None:
        as_before = job.model_dump(mode="json").get("geo") == earlier.geo
        placeless = (
            f" They get no place in {job.place}: the text is gone." if job.place and not as_before else ""
        )
        return BEFORE(subject, f"{said}. {_becomes_of_them(job, earlier)}{placeless}", "")
    if job.kind == earlier.becomes:
        return OTHERWISE(
            subject,
            f"{said}: {reason}.",
            f"Set BACKFILL_KEY_ID={earlier.key_id}, and the salt of that key id.",
        )
    beside = " with into" if isinstance(job, IntoJob) else ""
    return OTHERWISE(
        subject,
        f'{said}, and the plan says becomes = "{job.becomes}"{beside} now: {reason}.',
        f'Set the plan back; or go back to restore point {earlier.restore_point}; or becomes = "nothing".',
    )


def _described(earlier: Rewritten) -> str:
    if earlier.becomes == "network":
        return f"networks (/{earlier.widths.v4} and /{earlier.widths.v6})"
    return FORM.get(earlier.becomes, earlier.becomes)


def _in_the_way(job: Job, earlier: Rewritten) -> str | None:
    """Why the job cannot go on; None where it can."""
    if job.becomes == "nothing":
        return None
    if earlier.becomes == "nothing":
        if earlier.constant is None or isinstance(canonicalise(earlier.constant), Reason):
            return None
        return "the constant that stands there has the form of an address, and would be taken for one"
    if job.kind == earlier.becomes:
        if job.becomes == "pseudonym" and not earlier.same_hashes:
            return "pseudonyms of another key cannot be told from addresses, and would be pseudonymised again"
        return None
    if earlier.becomes == "hash":
        return "a hash is no address, so that nothing can be made of these rows"
    return f"{FORM[earlier.becomes]} have the form of addresses, and would be taken for some"


def _becomes_of_them(job: Job, earlier: Rewritten) -> str:
    if job.becomes == "network" and earlier.becomes == "network" and isinstance(job, InPlaceJob):
        now = job.widths
        coarser = now.v4 < earlier.widths.v4 or now.v6 < earlier.widths.v6
        finer = now.v4 > earlier.widths.v4 or now.v6 > earlier.widths.v6
        said = [f"They become coarser (/{now.v4} and /{now.v6})."] if coarser else []
        said += ["Bits that are gone do not come back: they stay as wide as they are."] if finer else []
        return " ".join(said) or "They stay as they are."
    if job.becomes == "hash" and earlier.becomes == "hash" and not earlier.same_hashes:
        return "They stay as they are: one address has two hashes from now on."
    if job.becomes == "nothing" and earlier.becomes != "nothing":
        if earlier.becomes == "hash":
            return "A hash is no address: unreadable in the plan decides about them."
        return "They become nothing as well."
    return (
        "They stay as they are, or get the constant of now."
        if job.becomes == "nothing"
        else "They stay as they are."
    )
