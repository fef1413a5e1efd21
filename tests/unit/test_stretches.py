"""Where something is left to do: every stretch is in exactly one range, and there are not too many of them."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backfill.database.blocks import Range
from backfill.jobs.closing_count import MOST_RANGES, STRETCH, Counted, joined


@given(st.lists(st.integers(0, 5_000), max_size=400))
def test_every_stretch_is_in_one_range_and_there_are_few(stretches: list[int]) -> None:
    found = joined(stretches)
    assert len(found) <= MOST_RANGES
    for number in stretches:
        holding = [
            one for one in found if one.first <= number * STRETCH and (number + 1) * STRETCH <= one.last
        ]
        assert len(holding) == 1
    assert all(one.last <= other.first for one, other in pairwise(found))


@given(st.sets(st.integers(0, 5_000), max_size=MOST_RANGES))
def test_where_they_are_few_nothing_else_is_in_the_ranges(stretches: set[int]) -> None:
    assert sum(one.last - one.first for one in joined(stretches)) == STRETCH * len(stretches)


def test_neighbours_are_one_range() -> None:
    counted = Counted(left=3, stretches=(7,)) + Counted(left=1, stretches=(8, 3))
    assert counted.where_left() == [Range(3 * STRETCH, 4 * STRETCH), Range(7 * STRETCH, 9 * STRETCH)]
    assert Counted().where_left() == []
