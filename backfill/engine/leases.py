"""Leases: which workers nobody hears of any more, by a clock that nobody sets. Pure.

A lease is written by the server's clock, and that may be stepped. So an expired one is only believed
when nothing was heard of its worker for a while by our own monotonic clock as well: forward by an hour,
every lease looks expired, and every worker is alive. And where nothing is heard for a whole term the
lease is over, whatever the server's clock says: backward by an hour, a dead worker would keep it for one.
"""

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

GRACE_SECONDS = 6.0  # twice what a living worker is silent for, between two transactions


@dataclass(frozen=True)
class Lease:
    """A batch in somebody's hands; the *until* of a living worker moves on."""

    batch_id: int
    lease: uuid.UUID
    until: datetime
    expired: bool  # by the server's clock


class Leases:
    """Those of one run, as its driver sees them, look by look. *term* in seconds."""

    def __init__(self, term: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._term, self._clock = term, clock
        self._heard: dict[int, tuple[uuid.UUID, datetime, float]] = {}

    def silent(self, running: Iterable[Lease]) -> list[int]:
        """Take in how *running*, all of them, stand now; returns the batches whose worker is gone."""
        now, heard, gone = self._clock(), {}, []
        for lease in running:
            known = self._heard.get(lease.batch_id)
            moved = known is None or known[:2] != (lease.lease, lease.until)
            last = now if moved or known is None else known[2]
            heard[lease.batch_id] = (lease.lease, lease.until, last)
            if now - last >= (GRACE_SECONDS if lease.expired else self._term):
                gone.append(lease.batch_id)
        self._heard = heard
        return gone
