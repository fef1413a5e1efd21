"""The table of statuses: nothing leaves an end, everything reaches one."""

import pytest

from backfill.ledger.run_state import TRANSITIONS, UNFINISHED, RunStatus

ENDS = {RunStatus.SUCCEEDED, RunStatus.CANCELLED}


def test_every_status_has_its_line():
    assert set(TRANSITIONS) == set(RunStatus)


def test_ends_are_ends():
    assert {status for status in RunStatus if status not in UNFINISHED} == ENDS


@pytest.mark.parametrize("status", UNFINISHED)
def test_whatever_is_unfinished_can_be_cancelled(status):
    assert TRANSITIONS[status] & {RunStatus.CANCELLED, RunStatus.CANCELLING}


def test_a_cancelled_run_is_never_taken_up_again():
    assert RunStatus.RUNNING not in TRANSITIONS[RunStatus.CANCELLING]


def test_only_a_running_run_succeeds():
    assert [status for status in RunStatus if RunStatus.SUCCEEDED in TRANSITIONS[status]] == [
        RunStatus.RUNNING
    ]
