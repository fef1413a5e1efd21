"""Disclosure difference: what a data request would return otherwise than it did when another disclosure was saved."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, NonNegativeInt


@dataclass(frozen=True)
class Difference:
    """A column whose answer changed between two disclosures."""

    item: str
    column: str
    kind: str  # raw address, hashed address, geo, or empty
    before: int | None  # none: the column was not there
    after: int | None


class _Held(BaseModel):
    table: str
    columns: dict[str, NonNegativeInt]
    holds: dict[str, str]


class _Item(BaseModel):
    item: str
    holdings: list[_Held]


class _Disclosed(BaseModel):
    version: Literal[1]
    username: str = ""
    asked: list[str] = []
    not_asked: list[dict[str, str]] = []
    items: list[_Item]


def disclosed(content: Any) -> dict[str, Any]:
    """*content* of a file, if it is a disclosure. Raises ``ValueError``."""
    return _Disclosed.model_validate(content, strict=True).model_dump()


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """What the second request returns otherwise than the first, by item and column."""
    first, second = _flat(before), _flat(after)
    return [
        Difference(
            item,
            column,
            (first.get((item, column)) or second[item, column])[1],
            first[item, column][0] if (item, column) in first else None,
            second[item, column][0] if (item, column) in second else None,
        )
        for item, column in dict.fromkeys([*first, *second])
        if first.get((item, column)) != second.get((item, column))
    ]


def _flat(disclosed: dict[str, Any]) -> dict[tuple[str, str], tuple[int, str]]:
    return {
        (item["item"], f"{held['table']}.{column}"): (number, held["holds"].get(column, ""))
        for item in disclosed["items"]
        for held in item["holdings"]
        for column, number in held["columns"].items()
    }
