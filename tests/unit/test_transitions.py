"""The table of statuses: nothing leaves an end, everything reaches one."""

import pytest

from backfill.ledger.run_state import TRANSITIONS, UNFINISHED, RunState

ENDS = {RunState.SUCCEEDED, RunState.CANCELLED}


def test_every_status_has_its_line():
    assert set(TRANSITIONS) == set(RunState)


def test_ends_are_ends():
    assert {status for status in RunState if status not in UNFINISHED} == ENDS


@pytest.mark.parametrize("status", UNFINISHED)
def test_whatever_is_unfinished_can_be_cancelled(status):
    assert TRANSITIONS[status] & {RunState.CANCELLED, RunState.CANCELLING}


def test_a_cancelled_run_is_never_taken_up_again():
    assert RunState.RUNNING not in TRANSITIONS[RunState.CANCELLING]


def test_only_a_running_run_succeeds():
    assert [status for status in RunState if RunState.SUCCEEDED in TRANSITIONS[status]] == [RunState.RUNNING]
