"""Ages and time columns, as a plan says them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from backfill.age.age import LONGEST, age_text, parse_age
from backfill.age.time_column import TimeColumn, Unit
from backfill.jobs import due
from backfill.plan import InPlaceJob, Plan

WHOLE_HOURS = st.integers(1, int(LONGEST / timedelta(hours=1))).map(lambda hours: timedelta(hours=hours))
JOB = {"table": "events", "becomes": "nothing", "then": "keep", "raw": "ip", "unreadable": "keep"}


@given(WHOLE_HOURS)
def test_an_age_is_read_as_it_is_written(age):
    assert parse_age(age_text(age)) == age


@given(
    st.integers(1, 3000),
    st.sampled_from(["hour", "day", "week"]),
    st.booleans(),
    st.sampled_from(["", " ", "  "]),
)
def test_number_and_unit_are_all_that_an_age_has(number, unit, plural, gap):
    hours = {"hour": 1, "day": 24, "week": 168}[unit]
    assert parse_age(f" {number}{gap}{unit.upper() if plural else unit}{'s' * plural} ") == timedelta(hours=number * hours)  # fmt: skip


@given(st.text(max_size=20).filter(lambda text: not any(digit in text for digit in "123456789")))
def test_any_other_text_is_refused_and_never_repeated(text):
    with pytest.raises(ValueError, match=r"as in 365 days|at least 1 hour"):
        parse_age(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a number and hours, days or weeks"),
        ("365", "a number and hours, days or weeks"),
        ("-1 days", "a number and hours, days or weeks"),
        ("1.5 days", "a number and hours, days or weeks"),
        ("1 day 2 hours", "a number and hours, days or weeks"),
        ("٣ days", "a number and hours, days or weeks"),
        ("12 months", "a month has no fixed length"),
        ("1 year", "a year has no fixed length"),
        ("0 days", "at least 1 hour"),
        ("40000 days", "at most 36525 days"),
    ],
)
def test_what_is_no_age_is_told(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_age(text)


@pytest.mark.parametrize(
    ("time", "read"),
    [
        ("created", TimeColumn(column="created")),
        ({"column": "created"}, TimeColumn(column="created", zone="UTC")),
        ({"column": "created", "zone": "America/Port-au-Prince"}, TimeColumn(column="created", zone="America/Port-au-Prince")),
        ({"column": "ts", "unit": "unix-ms"}, TimeColumn(column="ts", unit=Unit.MILLISECONDS)),
    ],
)  # fmt: skip
def test_a_time_is_a_name_or_a_table(time, read):
    job = InPlaceJob.model_validate(JOB | {"time": time, "after": "4 weeks", "max_due": 5})
    assert (job.time, job.time_column, job.after, job.max_due) == (read, read.column, timedelta(days=28), 5)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"after": "28 days"}, "after: it needs time"),
        ({"after": "28 days", "time": ""}, "after: it needs time"),
        ({"time": "created", "max_due": 5}, "max_due: it bounds what is due"),
        ({"time": "created", "after": "28 days", "max_due": 0}, "greater than or equal to 1"),
        ({"time": "created", "after": 28}, "an age is a text"),
        ({"time": "created", "after": "soon"}, "an age is a number"),
        ({"time": {"column": "ts", "unit": "unix-us"}}, "unix-s"),
        ({"time": {"column": "ts", "unit": "unix-s", "zone": "UTC"}}, "exclude each other"),
        ({"time": {"column": "created", "zone": "UTC+3"}}, "String should match pattern"),
        ({"time": {"zone": "UTC"}}, "Field required"),
        ({"time": {"column": "created", "colour": "red"}}, "Extra inputs"),
        ({"time": "ip", "after": "28 days"}, "the time of a job, and holds raw addresses"),
        ({"time": {"column": "ip"}, "after": "28 days"}, "the time of a job, and holds raw addresses"),
    ],
)
def test_what_is_wrong_with_an_age_or_a_time_is_told(keys, problem):
    with pytest.raises(ValidationError, match=problem):
        Plan.model_validate({"name": "x", "jobs": [JOB | keys]})


def test_two_spellings_of_an_age_are_one_definition():
    def definition(**keys):
        plan = Plan.model_validate({"name": "x", "jobs": [JOB | {"time": "created"} | keys]})
        return plan.definition(plan.jobs[0], "k1")

    assert definition(after="28 days") == definition(after="4 weeks") == definition(after="672 hours")
    assert definition(after="28 days") != definition(after="27 days") != definition()


def test_a_run_has_one_moment_and_without_one_nobody_can_ask_what_is_due():
    plan = Plan.model_validate({"name": "x", "jobs": [JOB | {"time": "created", "after": "28 days"}]})
    with pytest.raises(RuntimeError, match="has a moment"):
        due.condition(plan.jobs[0])
    moment = datetime(2026, 1, 29, tzinfo=UTC)
    assert "2026-01-01T00:00:00+00:00" in repr(due.condition(plan.at(moment).jobs[0]))
    assert plan.at(moment).fingerprint("k1") == plan.fingerprint("k1")
    assert plan.jobs[0].moment is None
    assert plan.at(moment).jobs[0].label == plan.jobs[0].label
