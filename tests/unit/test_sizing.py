"""Batch size by time: grow by a fifth, shrink at once, floors and ceilings."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backfill.engine.sizing import AIM, FIRST_BLOCKS, FLOOR_BLOCKS, MAX_GROWTH, Sizer


def test_it_begins_small_and_never_above_the_ceiling():
    assert Sizer(1.0, 10_000).blocks == FIRST_BLOCKS
    assert Sizer(1.0, 20).blocks == 20


def test_fast_batches_grow_by_a_fifth_a_step_up_to_the_ceiling():
    sizer = Sizer(1.0, 2_000)
    sizes = [sizer.measured(sizer.blocks, 0.001) for _ in range(20)]
    assert sizes[0] == int(FIRST_BLOCKS * MAX_GROWTH)
    assert all(after <= before * MAX_GROWTH for before, after in pairwise(sizes))
    assert sizes[-1] == 2_000


def test_a_slow_batch_shrinks_at_once_to_what_will_stay_below_the_target():
    sizer = Sizer(1.0, 2_000)
    for _ in range(5):
        sizer.measured(sizer.blocks, 0.01)
    assert sizer.measured(1_000, 10.0) == int(100 * AIM)


def test_one_fast_batch_after_slow_ones_does_not_lead_astray():
    sizer = Sizer(1.0, 100_000)
    for _ in range(10):
        sizer.measured(sizer.blocks, sizer.blocks * 0.01)  # 60 blocks are aimed at
    assert sizer.measured(sizer.blocks, 0.0001) <= 72


def test_time_alone_does_not_lead_below_the_floor_but_timeouts_do():
    sizer = Sizer(1.0, 2_000)
    assert sizer.measured(500, 1e6) == FLOOR_BLOCKS
    assert sizer.timed_out(8) == 4
    assert sizer.timed_out(1) == 1


def test_the_rest_of_a_table_proves_little():
    sizer = Sizer(1.0, 2_000)
    assert sizer.measured(3, 0.0001) == FIRST_BLOCKS


def test_a_batch_that_found_its_rows_done_makes_none_larger_and_a_slow_one_shrinks_all_the_same():
    sizer = Sizer(1.0, 10_000)
    size = sizer.measured(500, 0.5, written=5_000)
    assert sizer.measured(500, 0.01, written=2_000) == size
    assert sizer.measured(500, 0.01, written=0) == size
    assert sizer.measured(500, 0.01, written=3_000) > size
    assert sizer.measured(500, 5.0, written=0) < size


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 1e5)), max_size=50), st.integers(1, 10_000))
def test_the_size_stays_between_one_and_the_ceiling(measurements, ceiling):
    sizer = Sizer(1.0, ceiling)
    for blocks, seconds in measurements:
        assert 1 <= sizer.measured(blocks, seconds) <= ceiling
