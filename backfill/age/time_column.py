"""Time column: the column that tells how old a row is, and how its values are read.

``time = "created_at"`` is a timestamp with time zone. One without has a zone in which the application writes it:
``{ column = "created_at", zone = "UTC" }``, a date likewise. A number has a unit: ``{ column = "ts", unit = "unix-ms" }``.
"""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, StringConstraints, model_validator

from backfill.raw_column import Name, Part

# As PostgreSQL names zones. "UTC+3" is none: in it the sign means the opposite of what people read.
Zone = Annotated[
    str, StringConstraints(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_+-]*)*$")
]


class Unit(StrEnum):
    """What a number counts since 1970."""

    SECONDS = "unix-s"
    MILLISECONDS = "unix-ms"


class TimeColumn(Part):
    """A column of a moment; with neither *zone* nor *unit* a timestamp with time zone."""

    column: Name
    zone: Zone | None = None  # timestamp without time zone, date
    unit: Unit | None = None  # integers

    @model_validator(mode="after")
    def _one_reading(self) -> Self:
        if self.zone is not None and self.unit is not None:
            raise ValueError("zone and unit exclude each other: a number since 1970 has no zone")
        return self


def _read(given: Any) -> Any:
    """A name alone, and a table without ``unit``, which has the default zone; TOML's empty text is none."""
    if isinstance(given, str):
        return None if given == "" else {"column": given}
    if isinstance(given, dict) and "unit" not in given:
        return {"zone": "UTC", **given}
    return given


TimeOrNone = Annotated[TimeColumn | None, BeforeValidator(_read)]
