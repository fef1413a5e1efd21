"""What a report says of several kinds of job in one plan: each sentence about its own tables alone."""

from datetime import UTC, datetime, timedelta

from backfill.job_id import JobId
from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.plan import PYPI
from backfill.report import remaining
from backfill.report.coverage import verdict
from backfill.report.remaining import Scene
from backfill.verify.ages import Ages
from backfill.verify.standing import JobAges, Standing

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def record(table: str, kind: Kind, *, proved: datetime | None = None) -> CoverageRecord:
    return CoverageRecord(
        job=JobId(table), table=table, kind=kind, covered=True, counts={Count.ROWS: 5}, proved=proved
    )


def test_a_column_that_went_is_named_beside_its_own_kind() -> None:
    said = verdict(
        [
            record("users", Kind.EVENTS),
            record("logins", Kind.INTO, proved=MOMENT),
            record("seen", Kind.IN_PLACE),
        ]
    )
    assert "linked to the right one, and" in said
    assert "(in logins: as proved before the raw column went" in said
    said = verdict([record("users", Kind.EVENTS, proved=MOMENT), record("logins", Kind.INTO)])
    assert "linked to the right one (in users: as proved before" in said
    assert said.count("as proved") == 1


def test_what_is_late_has_its_own_command_and_no_other_jobs() -> None:
    def ages(label: str, waiting: int = 0, **late: int) -> JobAges:
        found = Ages(MOMENT, 10, 5, late.get("late", 0), None, None, 0, 0, kept_late=late.get("kept_late", 0))
        return JobAges(label, "network", timedelta(days=28), found, waiting, True, MOMENT, f"{label}.ip")

    jobs = (ages("raw", late=1), ages("kept", kept_late=1), ages("listed", 2, late=1), ages("fine", 2))
    scene = Scene(None, "backfill", PYPI, [], [], "", Standing(jobs))  # type: ignore[arg-type]
    raw, kept, listed = (left.what for left in remaining.late(scene))
    assert raw.endswith(": `backfill run --due`")
    assert kept.endswith('set unreadable = "nothing" in the plan, with a constant where NULL is not allowed.')
    assert listed.endswith(": `backfill run --due`, then `backfill quarantine list`")
