"""What is left, and who must act. A new kind of remainder is one function and one line in ``SOURCES``."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from backfill.database.columns import has_column
from backfill.gates.survey import Stage
from backfill.ledger import erasure_checks
from backfill.ledger.coverage_record import NOTHING_TO_DO, CoverageRecord
from backfill.plan import Plan
from backfill.prove.external_copies import SALT
from backfill.raw_column import RawColumn
from backfill.report import ages, external_copies
from backfill.report.facts import Left
from backfill.verify import seal
from backfill.verify.standing import Standing

OPERATOR, APPLICATION, DBA, OFFICER = "operator", "application", "database administrator", "privacy officer"


@dataclass(frozen=True)
class Scene:
    """What a source may look at."""

    connection: Connection
    schema: str
    plan: Plan
    records: list[CoverageRecord]
    stages: list[Stage]
    fingerprint: str
    standing: Standing

    @property
    def to_drop(self) -> list[RawColumn]:
        """Raw columns that a gate drops in the end: all but those whose values are rewritten in place."""
        plan = self.plan
        staying = plan.in_place_jobs
        return [*(job for job in plan.jobs if job not in staying), *plan.discard, *plan.address_tables]

    def stands(self) -> list[str]:
        """Those of them that are still there."""
        return [
            f"{part.name}.{part.raw_column}"
            for part in self.to_drop
            if has_column(self.connection, part, part.raw_column)
        ]

    @property
    def dropped(self) -> bool:
        """Whether no raw column is left."""
        return not self.plan.in_place_jobs and not self.stands()


def uncovered(scene: Scene) -> list[Left]:
    """What keeps a table from being covered."""
    return [
        Left(OPERATOR, f"{record.table}: {reason}") for record in scene.records for reason in record.reasons
    ]


def late(scene: Scene) -> list[Left]:
    """Raw values that are older than their job allows."""
    found = scene.standing
    said = []
    for job in found.jobs:
        commands = ", then ".join(f"`{command}`" for command in ages.commands_of(job))
        if not job.holds:
            text = ages.standing_text(job, found)
            said.append(Left(OPERATOR, f"{text}: {commands}" if commands else text))
    return said


def never_erased(scene: Scene) -> list[Left]:
    """A retention that never erases has erased nothing."""
    return [
        Left(
            DBA, f"{job.label}: `backfill erase` never rewrote its table; earlier values may be in its files"
        )
        for job in scene.standing.jobs
        if job.erased is None
    ]


def notes(scene: Scene) -> list[Left]:
    """What the verification wants known, where it may be the application's to do something about."""
    return [
        Left(APPLICATION, f"{record.table}: {note}")
        for record in scene.records
        if record.kind not in NOTHING_TO_DO
        for note in record.notes
    ]


def sealed(scene: Scene) -> list[Left]:
    """Seals that still discard."""
    return [
        Left(
            APPLICATION,
            f"{name} is sealed ({number:,} raw values discarded so far): deploy the change that stops writing them",
        )
        for name, number in seal.counts(scene.connection, scene.schema, scene.plan).items()
    ]


def raw_columns(scene: Scene) -> list[Left]:
    """Columns that still hold addresses."""
    standing = scene.stands()
    return [Left(OPERATOR, f"drop {', '.join(standing)}: `backfill gates` says how")] if standing else []


def on_disk(scene: Scene) -> list[Left]:
    """DROP COLUMN erases no byte; copies elsewhere erase nothing either. ``erased`` knows more, once it looked."""
    if erasure_checks.latest(scene.connection, scene.fingerprint) is not None:
        return []
    kept = []
    if len(scene.stands()) < len(scene.to_drop):
        kept.append("dropped columns keep their bytes in the table's file")
    if scene.plan.in_place_jobs:
        kept.append("values that were rewritten keep their bytes in dead rows, free space and indexes")
    if not kept:
        return []
    return [
        Left(DBA, f"{'; '.join(kept)}: `backfill erase`, then `backfill prove`"),
        Left(
            DBA,
            "WAL, WAL archives, base backups, dumps and standbys keep theirs until they expire or replay the rewrite",
        ),
    ]


def erased(scene: Scene) -> list[Left]:
    """What the newest proof of erasure found, and what lies outside the reach of any command."""
    proof = erasure_checks.latest(scene.connection, scene.fingerprint)
    if proof is None:
        return []
    again = "`backfill erase`, then `backfill prove`"
    if proof.verdict == "unproved":  # a rewrite opens no place to a role that may not look
        again = "`backfill prove`, as a role that may look there, once what is named here is done"
    elif not any("`backfill erase" in one["act"] for one in proof.findings if one["state"] == "found"):
        again = (
            "What to do stands beside each place"  # values that are not due come again after every rewrite
        )
    found = []
    if proof.verdict != "gone":  # otherwise the verdict on top says it
        found.append(Left(DBA, f"{external_copies.VERDICTS[proof.verdict]} {again}"))
    found += [
        Left(DBA, f"{one['where']}: {one['what']}" + (f" ({one['act']})" if one["act"] else ""))
        for one in proof.findings
        if one["state"] != "gone"
    ]
    return found + [
        Left(one["who"], f"{one['name']}: {one['state']}. {_ending(one['until'])}")
        for one in proof.external_copies
        if one["name"] != SALT  # ``pseudonyms`` says more
    ]


def pseudonyms(scene: Scene) -> list[Left]:
    """Said plainly, whatever the state."""
    return [
        Left(
            OFFICER,
            "a salted hash is a pseudonym: whoever has the salt can enumerate all IPv4 addresses in minutes. Destroying "
            "the salt makes the hashes irreversible, and costs the correlation with new traffic, bans included",
        )
    ]


SOURCES: tuple[Callable[[Scene], list[Left]], ...] = (
    uncovered,
    late,
    never_erased,
    notes,
    sealed,
    raw_columns,
    on_disk,
    erased,
    pseudonyms,
)


def left(scene: Scene) -> list[Left]:
    """All of it, in the order of the sources."""
    return [one for source in SOURCES for one in source(scene)]


def _ending(until: str) -> str:
    return f"Expiry {until}" if until.startswith("unknown") else f"Until {until}"
