"""When a run stops by itself."""

from datetime import datetime, timedelta, timezone

import pytest

from backfill.engine.control import Deadline, seconds, until


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("30m", 1800), ("4h", 14400), ("1h30m", 5400)])
def test_durations(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "4", "h", "4x", "-1h", "0s"])
def test_no_durations(text):
    with pytest.raises(ValueError, match=r"duration|float"):
        seconds(text)


def test_until_is_the_next_time_that_the_clock_shows_it():
    now = datetime(2024, 5, 1, 22, 0, tzinfo=timezone(timedelta(hours=2)))
    assert until("06:00", now) == datetime(2024, 5, 2, 6, 0, tzinfo=now.tzinfo)
    assert until("23:30", now) == datetime(2024, 5, 1, 23, 30, tzinfo=now.tzinfo)


def test_a_passed_deadline_says_which_one_it_was():
    past = datetime.now().astimezone() - timedelta(minutes=1)
    assert "--until" in (Deadline(until=past).passed() or "")
    assert "--max-runtime" in (Deadline(after=0).passed() or "")
    assert Deadline(after=3600).passed() is None
