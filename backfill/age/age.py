"""Age: how old a row has to be, as a plan says it: ``365 days``, ``4 weeks``, ``12 hours``.

A unit has a fixed length: a day is 24 hours. Months and years have none and are refused.
"""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

UNITS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
NO_FIXED_LENGTH = ("month", "year")
LONGEST = timedelta(days=36_525)  # a hundred years: server and client both count so far back

_AGE = re.compile(r"([0-9]{1,9}) *([a-z]+)")


def parse_age(text: str) -> timedelta:
    """The age that *text* says. Raises ``ValueError``, whose message says what an age looks like."""
    found = _AGE.fullmatch(text.strip().lower())
    name = found[2].removesuffix("s") if found else ""
    if name in NO_FIXED_LENGTH:
        raise ValueError(f"a {name} has no fixed length: give the age in days, as in 365 days")
    if not found or name not in UNITS:
        raise ValueError("an age is a number and hours, days or weeks, as in 365 days")
    number = int(found[1])
    if number == 0:
        raise ValueError("an age is at least 1 hour; without one, every row is due at once")
    if number > LONGEST // UNITS[name]:
        raise ValueError(f"an age is at most {age_text(LONGEST)}")
    return number * UNITS[name]


def age_text(age: timedelta) -> str:
    """*age* in the largest unit, days or hours, that it is a whole number of; ``parse_age`` reads it back."""
    name = "day" if age % UNITS["day"] == timedelta() else "hour"
    number = age // UNITS[name]
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _age_of(given: Any) -> timedelta:
    if isinstance(given, timedelta):
        return given
    if not isinstance(given, str):
        raise ValueError("an age is a text, as in 365 days")  # noqa: TRY004  # pydantic reports ValueError alone
    return parse_age(given)


# A field of a plan. Two spellings of one age are one definition.
Age = Annotated[timedelta, BeforeValidator(_age_of), PlainSerializer(age_text, return_type=str)]
