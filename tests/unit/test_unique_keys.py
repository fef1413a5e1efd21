"""Unique keys: which one decides for the others, and how many look-ups a row asks for."""

from dataclasses import replace

import pytest

from backfill.database.unique_keys import MOST_APART, UniqueKey, coarsest

IP = UniqueKey(
    name="ip", primary=False, problem="", nulls_are_equal=False, predicate=None, expressions=("ip",), columns=("ip",),
    not_null=(False,), computed=(False,), collations=('pg_catalog."C"',), operators=("OPERATOR(pg_catalog.=)",),
)  # fmt: skip
BOTH = replace(
    IP, name="both", expressions=("who", "ip"), columns=("ip", "who"), not_null=(False, False), computed=(False, False),
    collations=('pg_catalog."default"', 'pg_catalog."C"'), operators=IP.operators * 2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "decides"),
    [
        ({}, True),
        ({"collations": ("public.caseless",)}, False),  # it calls more texts equal, or fewer
        ({"operators": ("OPERATOR(ext.=)",)}, False),
        ({"expressions": ("lower(ip)",)}, False),
        ({"predicate": "(who <> '')"}, False),
        ({"nulls_are_equal": True}, True),
    ],
    ids=str,
)
def test_one_decides_whose_equal_rows_are_equal_in_no_other_alone(change: dict, decides: bool) -> None:
    key = replace(IP, **change)
    assert coarsest([BOTH, key]) == (key if decides else None)
    assert coarsest([key]) == key
    assert coarsest([]) is None


def test_where_nulls_are_equal_in_the_finer_one_alone_none_decides() -> None:
    assert coarsest([replace(BOTH, nulls_are_equal=True), IP]) is None


def test_a_row_asks_for_each_choice_of_nulls_up_to_a_bound() -> None:
    def asks(number: int, *, nulls_are_equal: bool = True, not_null: bool = False) -> int:
        many = {
            name: getattr(IP, name) * number
            for name in ("expressions", "computed", "collations", "operators")
        }
        key = replace(IP, **many, not_null=(not_null,) * number, nulls_are_equal=nulls_are_equal)
        return len(key.equals("wanted", guarded=False))

    assert [asks(number) for number in (1, 2, 4, 30)] == [2, 4, 16, 2**MOST_APART]
    assert asks(4, nulls_are_equal=False) == asks(4, not_null=True) == 1
