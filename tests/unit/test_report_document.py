"""The document of a report: built once from the facts, and each fact of it in every face."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backfill.gates.survey import Answer, Stage, State
from backfill.job_id import JobId
from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord, Evidence, GeoBuild, Kind, Method
from backfill.report import annex, coverage, pictures
from backfill.report.document import (
    Cell,
    Column,
    Document,
    Entries,
    Entry,
    Note,
    Picture,
    Section,
    Table,
    Tone,
)
from backfill.report.facts import (
    Decision,
    Facts,
    Geography,
    Left,
    Phase,
    Place,
    Quarantined,
    RunStory,
)
from backfill.report.formats import BY_NAME, FACES
from backfill.report.sections import SHOWN_COUNTRIES, document
from backfill.report.signature import checksum_of
from backfill.report.text import written
from backfill.verify.ages import Ages
from backfill.verify.standing import JobAges, Standing
from tests.faces import plain, read
from tests.operator import ROOT

MOMENT = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)


def record(kind: Kind, table: str, counts: dict[Count, int], **more: Any) -> CoverageRecord:
    return CoverageRecord(
        job=JobId(f"public.{table}"),
        table=table,
        kind=kind,
        covered="reasons" not in more,
        counts=counts,
        **more,
    )


EVENTS = record(
    Kind.EVENTS,
    "user_events",
    {count: 11_000 + number for number, count in enumerate(Count)},
    quarantined={"forwarded-list": 21_001, "empty": 21_002},
    reasons=("31 rows are wrong: `backfill repair user_events --kind link --count 31`",),
    notes=("32 raw values were written",),
)
SAMPLED = record(Kind.EVENTS, "team_events", {Count.ROWS: 0, Count.RIGHT: 0}, method=Method.SAMPLE)
PROVED = record(Kind.EVENTS, "file_events", {Count.ROWS: 12_001}, proved=MOMENT)
ADDRESSES = record(
    Kind.ADDRESSES,
    "ip_addresses",
    {Count.ROWS: 13_001, Count.HASH_RIGHT: 13_002, Count.NETWORKS: 13_003},
    geo_builds={"2026-01-02": GeoBuild(found=14_001, absent=14_002)},
)
DISCARD = record(Kind.DISCARD, "journals", {Count.ROWS: 15_001, Count.RAW: 15_002})

FACTS = Facts(
    made=MOMENT,
    database="an odd <b>|name|</b>",
    verdict="Not covered: user_events.",
    covered=False,
    dropped=True,
    records=[EVENTS, SAMPLED, PROVED, ADDRESSES, DISCARD],
    run=RunStory(
        number=41,
        status="succeeded",
        began=MOMENT,
        ended=MOMENT.replace(hour=13),
        jobs=("user_events",),
        phases=(Phase("resolve", 0.0, 1.5, 16_001), Phase("link", 1.5, 61.3, 16_002)),
        pace=((0.0, 5), (1.0, 17_001)),
        seconds=61.3,
        written=16_003,
    ),
    geography=Geography(
        places=(Place(50, 5, 18_001),),
        countries=tuple((f"Country {number}", 19_000 - number) for number in range(SHOWN_COUNTRIES + 3)),
        located=18_002,
        looked_at=18_003,
        sampled=True,
    ),
    left=[
        Left("operator", "drop user_events.ip: `backfill gates` says how"),
        Left("privacy officer", "a | note"),
    ],
    stages=[
        Stage("drop journals.submitted_from", "0002_journals", "drop()", State.DONE, ()),
        Stage(
            "guard user_events",
            None,
            "guard_links()",
            State.BLOCKED,
            (
                Answer("proof of user_events", False, "the last verification says no", "fix it", False),
                Answer("quarantine of user_events", True, "0 rows wait", "", False),
            ),
        ),
        Stage(
            "validate user_events", "0003b", "validate()", State.BLOCKED, (), lost="`alembic downgrade 0002`"
        ),
        Stage("drop user_events.ip", "0004", "drop()", State.LATER, ()),
    ],
    decisions=[
        Decision("settle", "user_events", 51_001, "alice", MOMENT, "as sentinel"),
        Decision("drop", "journals", 0, "bob", MOMENT, "submitted_from"),
    ],
    quarantine=[Quarantined("user_events", "forwarded-list", 61_001, 61_002)],
    standing=Standing(
        (
            JobAges(
                label="logins",
                becomes="network",
                after=timedelta(days=28),
                ages=Ages(
                    MOMENT,
                    71_001,
                    71_002,
                    71_003,
                    "2026-01-02 03:04:05+00",
                    "2026-11-26 12:00:00+00",
                    71_004,
                    71_005,
                    None,
                    71_006,
                    71_007,
                ),
                waiting=0,
                keeps=True,
                erased=None,
                column="logins.ip",
            ),
        ),
        timedelta(hours=25),
    ),
    provenance={"plan": "pypi, fingerprint abc", "verified": "full, ended 2026-11-26", "key id": "default"},
)


def facts_of(made: Document) -> Iterator[str]:
    """Every title, caption, note, label, sentence, head and cell."""
    yield made.title
    for section in made.sections:
        yield section.title
        for block in section.blocks:
            if isinstance(block, Note):
                yield block.text
            elif isinstance(block, Entries):
                yield block.caption
                for entry in block.entries:
                    yield from (entry.label, entry.text)
            elif isinstance(block, Table):
                yield block.caption
                yield from (column.title for column in block.columns)
                yield from (written(cell) for row in block.rows for cell in row if cell.value is not None)


@pytest.mark.parametrize("face", [face.name for face in FACES])
def test_each_fact_of_a_document_with_everything_in_it_is_in_each_face(face: str) -> None:
    made = document(FACTS)
    assert {section.key for section in made.sections} == {"coverage", "ages", "left", "gates", "run", "geography", "quarantine", "decisions", "provenance", "annex", "signature"}  # fmt: skip
    rendered = BY_NAME[face].render(made)
    said = read(face, rendered)
    assert [fact for fact in facts_of(made) if plain(face, fact) not in said] == []
    assert made.verdict in rendered


TOKENS = iter(range(700_001, 799_999))


def token() -> str:
    return f"fact{next(TOKENS)}"


@pytest.mark.parametrize("face", [face.name for face in FACES])
def test_a_face_says_each_fact_once_in_the_order_of_the_document(face: str) -> None:
    table = Table(
        token(),
        (Column(token()), Column(token(), number=True, bars=True), Column(token())),
        tuple((Cell(token()), Cell(next(TOKENS), Tone.ALARM), Cell(token(), Tone.NEXT)) for _ in range(3)),
    )
    blocks = (Note(token()), Entries(token(), (Entry(token(), token()),)), table)
    made = Document(
        token(), token(), True, (Section("a", token(), blocks), Section("b", token(), (Note(token()),)))
    )
    found = re.findall(r"fact\d+|7\d\d,\d{3}", read(face, BY_NAME[face].render(made)))
    expected = [fact for fact in facts_of(made) if fact != made.title]
    assert [fact for fact in found if fact not in (made.title, made.verdict)] == expected


@pytest.mark.parametrize(
    "fact",
    [
        *(f"{number:,}" for count, number in EVENTS.counts.items() if count in (*coverage.ALWAYS, *coverage.WHERE_ANY)),
        *("21,001", "21,002", "12,001", "13,001", "13,002", "13,003", "14,001", "14,002"),
        *("71,001", "71,002", "71,003", "71,004", "71,005", "71,006", "71,007", "2026-01-02 03:04:05+00", "never"),
        "A retention that never erases has not erased anything.",
        *("15,001", "not kept", "proved on 2026-11-26", "covered (sample only)", "NOT COVERED"),
        "were dropped afterwards",  # only HTML knew
        "the last verification says no",  # only HTML knew
        "1 of 2 hold",  # only HTML knew
        "its effect is gone: `alembic downgrade 0002`",  # no face knew
        *("16,001", "16,002", "16,003", "59.8", "ended 2026-11-26 13:30:00", "at best"),
        *("18,002 of 18,003", "(a sample)", "19,000", "3 others", f"{3 * 19_000 - 12 - 13 - 14:,}"),
        *("61,001", "61,002", "51,001", "settle as sentinel", "drop submitted_from", "alice", "fingerprint abc"),
    ],
)  # fmt: skip
def test_no_fact_gets_lost_on_the_way_into_the_document(fact: str) -> None:
    assert fact in "\n".join(facts_of(document(FACTS)))


def test_a_table_that_the_last_verification_did_not_read_is_named() -> None:
    """After a cut-over the record of its table is newer than the others, and says less."""
    read = [replace(one, finished=MOMENT, evidence=Evidence(verification=7)) for one in (EVENTS, ADDRESSES)]
    swapped = replace(PROVED, finished=MOMENT.replace(hour=14), evidence=Evidence(shadow={"rows": 1}))
    assert coverage.verified(read) == "full, ended 2026-11-26 12:30:00 UTC"
    assert coverage.verified([swapped, *read]) == (
        "full, ended 2026-11-26 12:30:00 UTC; not by that verification: file_events on 2026-11-26 14:30:00 UTC"
    )
    assert coverage.newest([swapped, *read]) is read[0]


def test_the_annex_says_of_every_count_what_it_means() -> None:
    assert list(annex.MEANINGS) == list(Count)
    assert len(set(annex.MEANINGS.values())) == len(Count)


def test_what_is_done_is_one_sentence_and_not_a_row() -> None:
    gates = next(section for section in document(FACTS).sections if section.key == "gates").blocks
    assert isinstance(gates[0], Note)
    assert gates[0].text == "1 of 4 changes are done: drop journals.submitted_from (0002_journals)."
    assert isinstance(gates[1], Table)
    assert len(gates[1].rows) == 3


def test_the_checksum_is_over_everything_but_the_signature() -> None:
    made = document(FACTS)
    said = json.loads(BY_NAME["json"].render(made))
    digest = said["document"]["sha256"]
    assert checksum_of(said) == digest
    assert digest in BY_NAME["text"].render(made)
    said["sections"][-1]["blocks"][1]["entries"][0]["text"] = "Alice"
    assert checksum_of(said) == digest
    for name, value in {"verdict": "Gone.", "covered": True, "sections": said["sections"][1:]}.items():
        assert checksum_of({**said, name: value}) != digest


def test_what_does_not_apply_is_no_zero() -> None:
    made = document(FACTS)
    decisions = next(section for section in made.sections if section.key == "decisions").blocks[0]
    assert isinstance(decisions, Table)
    assert [row[3].value for row in decisions.rows] == [51_001, None]
    assert written(Cell(None)) == "–"
    assert written(Cell(0)) == "0"


def test_a_picture_has_no_number_that_its_section_does_not_say() -> None:
    for section in document(FACTS).sections:
        said = "\n".join(facts_of(Document("", "", True, (section,))))
        for block in section.blocks:
            if isinstance(block, Picture) and isinstance(block.drawing, pictures.Bars):
                for bar in block.drawing.bars:
                    assert bar.label in said
                    assert all(f"{part.number:,}" in said for part in bar.slices)
            elif isinstance(block, Picture) and isinstance(block.drawing, pictures.Timeline):
                assert all(span.name in said for span in block.drawing.spans)
                assert f"{block.drawing.fastest:,.0f} at best" in said


TOY = '''"""Toy: titles alone."""

from backfill.report.document import Document


def render(document: Document) -> str:
    return " / ".join(section.title for section in document.sections)
'''


def test_a_new_face_is_one_file_and_one_line(tmp_path: Path) -> None:
    package = tmp_path / "backfill"
    shutil.copytree(ROOT / "backfill", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "report" / "toy.py").write_text(TOY)
    faces = package / "report" / "formats.py"
    listed = faces.read_text().replace("import html,", "import toy, html,").replace(
        "FACES = (", 'FACES = (\n    Face("toy", (".toy",), toy.render),'
    )  # fmt: skip
    faces.write_text(listed)
    script = (
        "from tests.unit.test_report_document import FACTS, document\n"
        "from backfill.report.formats import BY_SUFFIX\n"
        "print(BY_SUFFIX['.toy'].render(document(FACTS)))\n"
        "import runpy, sys\n"
        "sys.argv = ['backfill', 'report', '--help']\n"
        "runpy.run_module('backfill', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "COLUMNS": "200"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(
        "Coverage / How old raw values are / What is left, and who must act / Gates / Run 41 /"
    )
    assert "[toy|text|json|markdown|html]" in done.stdout
