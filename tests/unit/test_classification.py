"""Classification, samples and pictures: the pure half of verify and of the report."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.addresses import canonical_text, canonicalise
from backfill.job_id import JobId
from backfill.ledger.counts import CLASSES, Count
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.report import pictures
from backfill.report.facts import Geography, Place, RunStory
from backfill.verify import dropping
from backfill.verify.classification import Suspect, classify, hash_state, plain_states, state
from backfill.verify.reading import classified
from backfill.verify.sample import CHUNK_BLOCKS, chunks, upper_bound

SENTINEL = "192.0.2.69"


@pytest.mark.parametrize(
    ("raw", "linked", "expected"),
    [
        ("198.51.100.7", "198.51.100.7", "right"),
        (" 198.51.100.7:80 ", "198.51.100.7", "right"),
        ("::ffff:198.51.100.7", "198.51.100.7", "right"),
        ("198.51.100.7", "::ffff:198.51.100.7", "right"),
        ("2001:DB8:0::1", "2001:db8::1", "right"),
        ("198.51.100.7", "198.51.100.8", "wrong"),
        ("198.51.100.7", SENTINEL, "linked_to_sentinel"),
        (SENTINEL, SENTINEL, "right"),
        ("198.51.100.7", None, "unlinked"),
        ("unknown", None, "quarantined"),
        ("unknown", SENTINEL, "settled"),
        ("unknown", "198.51.100.7", "own_link_kept"),
        ("x" * 65, None, "quarantined"),
        ("x" * 65, SENTINEL, "settled"),
    ],
)
def test_what_text_and_link_make_of_a_row(raw: str, linked: str | None, expected: str) -> None:
    assert state(canonicalise(raw), linked, SENTINEL) == expected


@given(st.text(max_size=70), st.sampled_from([None, SENTINEL, "198.51.100.7", "2001:db8::1"]))
def test_every_row_is_in_exactly_one_state(raw: str, linked: str | None) -> None:
    found = classify(Suspect(raw, linked, "right", False, False), SENTINEL, lambda _: True)
    assert sum(name in CLASSES for name in found) == 1


def test_geo_is_missing_only_where_the_address_resolves_and_there_is_a_place() -> None:
    lacking = Suspect("198.51.100.7", "198.51.100.7", "right", True, False)
    listed = Suspect("198.51.100.7", "198.51.100.7", "right", False, True)
    assert classify(lacking, SENTINEL, lambda _: True) == ["right", "geo_missing"]
    assert classify(lacking, SENTINEL, lambda _: False) == ["right"]
    assert classify(listed, SENTINEL, lambda _: True) == ["right", "geo_has_no_place"]
    hopeless = Suspect("unknown", SENTINEL, "right", True, False)
    assert classify(hopeless, SENTINEL, lambda _: True) == ["settled"]


def test_what_a_range_holds_is_counted_in_rows_and_not_in_groups() -> None:
    rows = [
        (6, "198.51.100.7", "198.51.100.8", "wrong", "false", "false", "false", 3, 0b101, None, None),
        (6, "unknown", None, "right", "true", "false", "false", 2, 0b110, "2024-05-01 10:00:00", True),
        (6, "198.51.100.9", "198.51.100.9", "right", "true", "false", "false", 5, 0b111, None, None),
        (6, "198.51.100.9", None, "right", "false", "false", "true", 7, 0b000, None, None),
        (None, None, None, None, None, None, None, 90, None, None, None),
        (0, None, None, None, None, None, None, 6, 0b001, None, None),
        (2, "linked", "bare", None, None, None, None, 4, 0b001, None, None),
    ]
    held = classified(rows, lambda suspect: classify(suspect, SENTINEL, lambda _: True))
    assert held.counts == {
        "right": 95,
        "wrong": 3,
        "dangling": 7,
        "hash_wrong": 3,
        "quarantined": 2,
        "geo_missing": 5,
    }
    assert held.quarantined == {"unknown": 2}
    assert (held.rows, held.raw, held.link_only) == (117, 107, 4)
    assert (held.newest, held.late) == ("2024-05-01 10:00:00", True)
    assert (held.others, held.checksum) == (
        12,
        0b101 + 0b110,
    )  # its own spelling, without geo, is none of them


@pytest.mark.parametrize(
    ("hosts", "hashes", "plain"),
    [
        (["198.51.100.7", "2001:db8::1"], ["h(198.51.100.7)", "h(2001:db8::1)"], True),
        (["198.51.100.7"], ["h(198.51.100.8)"], False),
        (["198.51.100.7"], ["H(198.51.100.7)"], False),
        (["198.51.100.7", "198.51.100.8"], ["h(198.51.100.7)"], False),
        (["198.51.100.7"], ["h(198.51.100.7)", "h(198.51.100.8)"], False),
        (["::ffff:198.51.100.7"], ["h(::ffff:198.51.100.7)"], False),
        (["2001:DB8::1"], ["h(2001:DB8::1)"], False),
        (["2001:db8:0:0:0:0:0:1"], ["h(2001:db8:0:0:0:0:0:1)"], False),
    ],
)
def test_only_rows_that_are_right_and_canonical_need_no_second_look(
    hosts: list[str], hashes: list[str], plain: bool
) -> None:
    assert plain_states(hosts, hashes, lambda text: f"h({text})") is plain


@given(st.lists(st.ip_addresses(v=6), max_size=20))
def test_what_needs_no_second_look_is_what_the_canonicaliser_prints(found: list[Any]) -> None:
    hosts = [str(one) for one in found]
    if plain_states(hosts, hosts, lambda text: text):
        assert [canonical_text(canonicalise(host)) for host in hosts] == hosts
    else:
        assert any(host.startswith("::") for host in hosts)


@pytest.mark.parametrize(
    ("host", "masklen", "live", "expected"),
    [
        ("198.51.100.7", 32, "h(198.51.100.7)", ("right", True, "198.51.100.7")),
        ("198.51.100.7", 32, "H(198.51.100.7)", ("wrong", True, "198.51.100.7")),
        ("198.51.100.7", 32, None, ("missing", True, "198.51.100.7")),
        ("198.51.100.7", 24, "h(198.51.100.7/24)", ("right", True, "198.51.100.7/24")),
        ("198.51.100.7", 24, "h(198.51.100.7)", ("wrong", True, "198.51.100.7/24")),
        ("::ffff:198.51.100.7", 128, "h(::ffff:198.51.100.7)", ("right", False, "198.51.100.7")),
        ("2001:db8::1", 128, "h(198.51.100.7)", ("wrong", True, "2001:db8::1")),
    ],
)
def test_what_a_stored_hash_is_worth(
    host: str, masklen: int, live: str | None, expected: tuple[str, bool, str]
) -> None:
    assert hash_state(host, masklen, live, lambda text: f"h({text})") == expected


@given(st.integers(0, 5_000), st.floats(0.01, 100), st.integers())
def test_a_sample_is_the_same_again_and_stays_within_the_table(
    blocks: int, percent: float, seed: int
) -> None:
    found = list(chunks(blocks, percent, seed))
    assert found == list(chunks(blocks, percent, seed))
    assert bool(found) == bool(blocks)
    assert all(0 <= one.first < one.last <= blocks for one in found)
    assert len({one.first for one in found}) == len(found)
    if percent == 100:
        assert sum(one.last - one.first for one in found) == blocks
    assert len(found) <= math.ceil(blocks / CHUNK_BLOCKS)


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    assert upper_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100), abs=1e-9)
    assert upper_bound(0, 59) < 0.05 < upper_bound(0, 58)  # the textbook's "59 without a fault"
    assert upper_bound(1, 100) == pytest.approx(0.046557, abs=1e-5)
    assert upper_bound(5, 10) == pytest.approx(0.777559, abs=1e-5)
    assert upper_bound(10, 10) == 1.0


def events(counts: dict[Count, int]) -> CoverageRecord:
    return CoverageRecord(job=JobId("t"), table="t", kind=Kind.EVENTS, covered=False, counts=counts)


def test_one_wrong_row_of_a_million_is_seen_in_the_bar() -> None:
    right, wrong = pictures.coverage_bar(events({Count.RIGHT: 999_999, Count.WRONG: 1}))
    assert wrong.width > 0.5
    assert right.width + wrong.width == pytest.approx(100)
    assert (wrong.kind, wrong.number) == ("wrong", 1)
    assert pictures.coverage_bar(events({Count.ROWS: 0})) == []


@pytest.mark.parametrize("count", CLASSES)
def test_rows_of_each_class_are_seen_in_the_bar(count: Count) -> None:
    (part,) = pictures.coverage_bar(events({Count.ROWS: 7, count: 7}))
    assert (part.number, part.label) == (7, count.words)


def test_dots_lie_on_the_map_and_grow_with_the_events() -> None:
    places = (Place(-70, -180, 5), Place(75, 175, 50_000))
    few, many = pictures.dots(Geography(places, (), 2, 2, False))
    assert few.radius < many.radius
    for dot in (few, many):
        assert 0 <= dot.x <= pictures.MAP_WIDTH
        assert 0 <= dot.y <= pictures.MAP_HEIGHT


def test_the_pace_of_a_run_of_no_time_is_no_line() -> None:
    story = RunStory(1, "succeeded", datetime.now(UTC), None, (), (), (), 0.0, 0)
    assert pictures.pace_line(story) == ""
    assert pictures.fastest(story) == 0.0


def test_keys_are_shown_up_to_a_number_and_never_one_that_is_null() -> None:
    assert dropping.shown(["1", None, "2"], str) == ("1", "2")
    assert len(dropping.shown(map(str, range(100)), str)) == dropping.KEYS_SHOWN
