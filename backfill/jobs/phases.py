"""Phases: what a run goes through, by the names that stand in the ledger."""

RESOLVE, LINK, FILL, SWEEP, CLOSE = "resolve", "link", "fill", "sweep", "close"


def sweep(number: int, part: str) -> str:
    """The name of one half (*part*: resolve or link) of the sweep of that *number*."""
    return f"{SWEEP}-{number}-{part}"


def is_sweep(phase: str) -> bool:
    """Whether nearly all rows are expected to be done: few of those that are read look into the map."""
    return phase.startswith(SWEEP)


def kind(phase: str) -> str:
    """The phases of one kind cost alike: all sweeps that resolve, all that link, and each other by itself."""
    return f"{SWEEP}-{phase.rsplit('-', 1)[-1]}" if phase.startswith(SWEEP) else phase


def in_client(phase: str) -> bool:
    """Whether the driver does the phase itself, a batch at a time, instead of several workers."""
    return phase == FILL or phase.endswith(RESOLVE)
