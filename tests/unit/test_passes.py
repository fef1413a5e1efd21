"""Every row of a batch belongs to exactly one pass before the last ones, which take whatever is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.database.blocks import Range
from backfill.jobs.passes import pass_of

PASSES = st.sampled_from([1, 2, 4, 8, 16, 32, 64])


@given(first=st.integers(0, 1_000), blocks=st.integers(0, 1_000), passes=PASSES)
def test_each_block_meets_each_share_once_and_the_last_share_last(
    first: int, blocks: int, passes: int
) -> None:
    whole = Range(first, first + blocks)
    all_turns = [pass_of(whole, passes, number) for number in range(passes)]
    for block in range(whole.first, whole.last):
        met = [one for one in all_turns if one.range.first <= block < one.range.last]
        assert [one.share for one in met] == list(range(met[0].shares))
        assert [one.last for one in met] == [False] * (len(met) - 1) + [True]


@given(passes=st.sampled_from([4, 8, 16]), number=st.integers(0, 15))
def test_the_halves_take_turns(passes: int, number: int) -> None:
    whole = Range(10, 30)
    now = pass_of(whole, passes, number % passes)
    assert now.range == (Range(10, 20) if number % 2 == 0 else Range(20, 30))
    assert now.shares == passes // 2


@pytest.mark.parametrize("passes", [1, 2])
def test_one_or_two_go_over_the_whole(passes: int) -> None:
    assert [pass_of(Range(0, 9), passes, number).range for number in range(passes)] == [Range(0, 9)] * passes
