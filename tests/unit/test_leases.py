"""Whose worker is gone: an expired lease and silence together, or silence for a whole term."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from backfill.engine.leases import GRACE_SECONDS, Lease, Leases

START = datetime(2024, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TERM = 60.0


class Watched:
    """One batch, looked at by a driver whose own clock the test turns."""

    def __init__(self):
        self.now, self.server = 1000.0, START
        self.until = START + timedelta(seconds=TERM)
        self.lease = uuid.uuid4()
        self.leases = Leases(TERM, lambda: self.now)

    def beat(self):
        self.until = self.server + timedelta(seconds=TERM)

    def gone_after(self, seconds):
        self.now += seconds
        self.server += timedelta(seconds=seconds)
        return bool(self.leases.silent([Lease(1, self.lease, self.until, self.until < self.server)]))


@pytest.fixture
def batch():
    watched = Watched()
    assert not watched.gone_after(0)
    return watched


def test_a_worker_that_beats_is_never_gone(batch):
    for _ in range(100):
        batch.beat()
        assert not batch.gone_after(3)


def test_a_worker_that_is_silent_for_its_term_is_gone(batch):
    assert not batch.gone_after(TERM - 1)
    assert batch.gone_after(2)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_servers_clock_takes_nothing_from_a_living_worker(batch, step):
    for number in range(20):
        if number % 2:
            batch.server += step
            assert not batch.gone_after(0.1)  # looks expired, and is not believed
        batch.beat()
        assert not batch.gone_after(3)


def test_after_a_step_forward_a_dead_worker_is_gone_when_its_silence_has_lasted(batch):
    batch.server += HOUR
    assert not batch.gone_after(GRACE_SECONDS / 2)
    assert batch.gone_after(GRACE_SECONDS / 2)


def test_a_step_backward_does_not_keep_a_dead_worker_for_an_hour(batch):
    batch.server -= HOUR
    assert not batch.gone_after(1)
    assert batch.gone_after(TERM)


def test_a_batch_that_changed_hands_begins_anew(batch):
    assert not batch.gone_after(TERM - 1)
    batch.lease = uuid.uuid4()
    assert not batch.gone_after(2)
