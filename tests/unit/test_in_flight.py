"""What an executor has in hand: never more than asked for, all of it done, and nothing begun after a failure."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from backfill.engine import in_flight


@pytest.mark.parametrize("workers", [1, 3])
def test_every_item_is_done_once_and_no_more_than_that_many_at_a_time(workers):
    now, most, lock = 0, 0, threading.Lock()

    def work(item: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1
        return item * item

    done = dict(in_flight.in_threads(workers, work, range(50), name="test"))
    assert done == {item: item * item for item in range(50)}
    assert most <= workers


def test_nothing_to_do_is_done_at_once():
    assert list(in_flight.in_threads(2, str, [], name="test")) == []


def test_after_a_failure_nothing_more_is_begun_and_what_is_in_flight_is_told_and_waited_for():
    begun, told = [], threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ZeroDivisionError
        if item == 0:
            assert told.wait(10)  # the pool waits for this one: told only after it, both would wait for ever
            begun.append("ended")

    with pytest.raises(ZeroDivisionError):
        list(in_flight.in_threads(2, work, range(100), name="test", failed=told.set))
    assert begun[-1] == "ended"
    assert len(begun) < 10


def test_a_checkpoint_that_raises_ends_it_between_two_items():
    begun: list[int] = []

    def checkpoint() -> None:
        if len(begun) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(in_flight.in_threads(1, begun.append, range(100), name="test", checkpoint=checkpoint))
    assert begun == [0, 1, 2]


def test_a_consumer_that_fails_ends_it_too():
    failed = threading.Event()

    def consume() -> None:
        for item, _ in in_flight.in_threads(2, str, range(100), name="test", failed=failed.set):
            assert item < 5

    with pytest.raises(AssertionError):
        consume()
    assert failed.is_set()


def test_an_empty_hand_is_idle_and_asks_again_and_sees_what_is_in_flight():
    answers, idle, seen = iter([None, "first", None, "second"]), [], []

    def following(running: Sequence[str]) -> str | None:
        seen.append(tuple(running))
        return next(answers, None)

    def goes_on(running: dict[Future[str], str]) -> bool:
        return "second" not in done or bool(running)

    done: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        for item, future in in_flight.completed(
            lambda item: pool.submit(str.upper, item),
            following,
            goes_on=goes_on,
            slots=lambda: 2,
            idle=lambda: idle.append(1),
            poll_seconds=None,
        ):
            assert future.result() == item.upper()
            done.append(item)
    assert done == ["first", "second"]
    assert idle
    assert seen[0] == ()
