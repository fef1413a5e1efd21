"""Coverage records: the names of their fields are those of the ledger, of the JSON and of the documents."""

import json
import re
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from backfill.job_id import JobId
from backfill.ledger.counts import CLASSES, Count, in_order
from backfill.ledger.coverage import digest
from backfill.ledger.coverage_record import (
    CoverageRecord,
    Evidence,
    GeoBuild,
    Kind,
    Method,
    as_columns,
    as_json,
    from_columns,
)
from backfill.ledger.tables import coverage
from tests.operator import ROOT

MOMENT = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)
# Nothing is left at its default, so that a field that gets lost is noticed.
RECORD = CoverageRecord(
    job=JobId("public.t.ip"),
    table="t",
    kind=Kind.ADDRESSES,
    covered=True,
    becomes="pseudonym",
    counts={count: number for number, count in enumerate(Count)},
    quarantined={"unknown": 2},
    reasons=("2 rows: `backfill run`",),
    raw_rows=5,
    newest_raw="2026-01-01",
    wrong_keys=("7", "8"),
    proved=MOMENT,
    method=Method.SAMPLE,
    notes=("a note",),
    since_run=3,
    confirmed_by=4,
    geo_builds={"2026-01-01": GeoBuild(found=1, absent=2)},
    evidence=Evidence(
        other_spellings="1/2",
        hash_checksum="3",
        snapshot="4:4:",
        raw_column="5/6",
        shadow={"rows": 7},
        key_id="default",
        verification=8,
        percent=2.5,
        geo_type="City",
        geo_build=MOMENT,
        version="1",
    ),
    finished=MOMENT,
)
LEDGERS_OWN = {"id", "plan_fingerprint", "started", "finished", "database", "digest"}
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())["properties"]["tables"]["items"]


def test_the_ledger_gives_back_what_was_entered() -> None:
    stored = json.loads(
        json.dumps(as_columns(RECORD), default=str)
    )  # as JSONB keeps it: lists, and texts as keys
    assert from_columns({**stored, "finished": MOMENT}, "t") == RECORD
    for part in (RECORD, RECORD.evidence):
        assert all(getattr(part, one.name) for one in fields(part))  # or this test shows nothing


def test_each_field_has_a_column_of_its_name_and_each_column_a_field() -> None:
    assert set(as_columns(RECORD)) == set(coverage.c.keys()) - LEDGERS_OWN
    assert {one.name for one in fields(CoverageRecord)} == set(SCHEMA["properties"]) | {
        "evidence",
        "finished",
    }
    assert set(as_json(RECORD)) == set(SCHEMA["properties"]) == set(SCHEMA["required"])


def test_a_count_that_this_version_does_not_know_is_an_error() -> None:
    stored = {**as_columns(RECORD), "finished": MOMENT, "counts": {"misfiled": 1}}
    with pytest.raises(ValidationError, match="misfiled"):
        from_columns(stored, "t")


def test_counts_are_read_in_one_order_whatever_the_ledger_made_of_it() -> None:
    assert list(in_order(dict(reversed(RECORD.counts.items())))) == list(Count)


def test_the_documents_name_each_count_and_no_other() -> None:
    text = (ROOT / "docs" / "verify.md").read_text()
    section = text[text.index("## What it counts") : text.index("## Repair")]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", section)) - {"since_run", "geoip_info"}
    assert named == set(Count)
    assert set(SCHEMA["properties"]["counts"]["properties"]) == set(Count)
    assert SCHEMA["properties"]["counts"]["additionalProperties"] is False
    for count, said in SCHEMA["properties"]["counts"]["properties"].items():
        assert said["description"] == Count(count).words


def test_words_are_of_one_count_only() -> None:
    assert len({count.words for count in Count}) == len(Count)
    assert set(CLASSES) < set(Count)


def test_the_digest_is_over_every_column() -> None:
    made = digest("proof")
    apart = re.search(r"- '\{(.*?)\}'", made)
    assert apart is not None
    beside = set(apart[1].split(","))
    assert beside < set(coverage.c.keys())
    assert all(f"proof.{name})" in made for name in beside - {"digest"})
