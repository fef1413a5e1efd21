"""Statuses of runs and batches, and which may follow which."""

from collections.abc import Mapping
from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands. A dead driver is told by its lease, never by a status."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.PENDING: frozenset({RunState.RUNNING, RunState.CANCELLED}),
    RunState.RUNNING: frozenset(
        {
            RunState.RUNNING,  # taken over: the driver before was killed and could not say so
            RunState.PAUSING,
            RunState.PAUSED,  # no driver is left to finish a batch first
            RunState.SUCCEEDED,
            RunState.FAILED,
            RunState.CANCELLING,
            RunState.CANCELLED,  # no driver is left
        }
    ),
    RunState.PAUSING: frozenset(  # the workers finish their transaction first
        {
            RunState.PAUSED,
            RunState.RUNNING,  # resumed before it had come to rest, or taken over
            RunState.FAILED,
            RunState.CANCELLING,
            RunState.CANCELLED,
        }
    ),
    RunState.PAUSED: frozenset(
        {
            RunState.RUNNING,
            RunState.PAUSING,  # the driver that waited here is told to leave
            RunState.FAILED,
            RunState.CANCELLING,  # the driver that waits here clears up
            RunState.CANCELLED,
        }
    ),
    RunState.CANCELLING: frozenset({RunState.CANCELLED, RunState.FAILED}),  # there is no way back
    RunState.FAILED: frozenset({RunState.RUNNING, RunState.CANCELLED}),  # resumed at its place
    RunState.SUCCEEDED: frozenset(),
    RunState.CANCELLED: frozenset(),
}

UNFINISHED = tuple(status for status, following in TRANSITIONS.items() if following)


class BatchState(StrEnum):
    """Where a batch stands; its place within is ``passes_done``."""

    PENDING = "pending"
    RUNNING = "running"  # somebody holds its lease
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # tried as often as its errors allow; the next attempt of the run tries again
