"""Statuses of runs and batches, and which may follow which."""

from collections.abc import Mapping
from enum import StrEnum


class RunStatus(StrEnum):
    """Where a run stands. A dead driver is told by its lease, never by a status."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.RUNNING,  # taken over: the driver before was killed and could not say so
            RunStatus.PAUSING,
            RunStatus.PAUSED,  # no driver is left to finish a batch first
            RunStatus.SUCCEEDED,
            RunStatus.FAILED,
            RunStatus.CANCELLING,
            RunStatus.CANCELLED,  # no driver is left
        }
    ),
    RunStatus.PAUSING: frozenset(  # the workers finish their transaction first
        {
            RunStatus.PAUSED,
            RunStatus.RUNNING,  # resumed before it had come to rest, or taken over
            RunStatus.FAILED,
            RunStatus.CANCELLING,
            RunStatus.CANCELLED,
        }
    ),
    RunStatus.PAUSED: frozenset(
        {
            RunStatus.RUNNING,
            RunStatus.PAUSING,  # the driver that waited here is told to leave
            RunStatus.FAILED,
            RunStatus.CANCELLING,  # the driver that waits here clears up
            RunStatus.CANCELLED,
        }
    ),
    RunStatus.CANCELLING: frozenset({RunStatus.CANCELLED, RunStatus.FAILED}),  # there is no way back
    RunStatus.FAILED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),  # resumed at its place
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}

UNFINISHED = tuple(status for status, following in TRANSITIONS.items() if following)


class BatchStatus(StrEnum):
    """Where a batch stands; its place within is ``passes_done``."""

    PENDING = "pending"
    RUNNING = "running"  # somebody holds its lease
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # tried as often as its errors allow; the next attempt of the run tries again
