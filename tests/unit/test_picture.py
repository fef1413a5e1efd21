"""The benchmarks' picture: numbers as one reads them, lines where they belong."""

import dataclasses
from xml.etree import ElementTree

import pytest

from benchmarks import picture, report
from benchmarks.contenders import BASELINE
from benchmarks.record import Record

ONE = Record(
    contender=BASELINE, series="contenders", about="here", sitting="now", round=1, events=1000, distinct=100,
    linked=800, waiting=800, seconds=8.0, cpu_seconds=4.0, wal_bytes=1, table_bytes=2, index_bytes=1, grew=1.5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (960, "1k"),
        (12_345, "12k"),
        (100_000, "100k"),
        (500_000, "500k"),
        (1_500_000, "1.5M"),
        (10_000_000, "10M"),
        (7, "7"),
    ],
)
def test_sizes_have_two_digits_and_a_unit(number: int, said: str) -> None:
    assert picture.short(number) == said


def test_a_ratio_is_taken_within_its_round_alone() -> None:
    slow_round = [dataclasses.replace(ONE, round=2, seconds=80.0), dataclasses.replace(ONE, round=2, contender="in place, 2 workers", seconds=20.0)]  # fmt: skip
    quick_round = [ONE, dataclasses.replace(ONE, contender="in place, 2 workers", seconds=2.0)]
    table = report.table([*quick_round, *slow_round])
    assert "| 4 (4–4) " in table.replace("  ", " ")


def test_a_sample_is_extrapolated_to_all_rows_and_marked() -> None:
    loop = dataclasses.replace(ONE, contender="loop", sampled=True, complete=False, linked=80, seconds=4.0)
    assert loop.whole_seconds == 40.0
    assert loop.rate == 20.0
    assert "40.0 (extrapolated)" in report.table([ONE, loop])
    assert "times the speed of loop" in report.aims([ONE, loop])
    assert [bar.name for bar in picture.bars([ONE, loop])] == [BASELINE]


def test_the_drawing_is_well_formed_and_names_every_contender(tmp_path) -> None:
    series = [
        dataclasses.replace(ONE, series=series, events=events, contender=name)
        for series in ("growth", "distinct")
        for events in (1000, 2000)
        for name in (BASELINE, "in place, 2 workers")
    ]
    drawn = picture.draw([ONE, *series], tmp_path / "drawn.svg").read_text()
    ElementTree.fromstring(drawn)  # noqa: S314 -- ours
    assert drawn.count("<polyline") == 4
    assert "in place" in drawn


def test_rows_that_differ_are_shouted() -> None:
    assert "DIFFER" in report.same_rows(
        [dataclasses.replace(ONE, content="a"), dataclasses.replace(ONE, content="b")]
    )
