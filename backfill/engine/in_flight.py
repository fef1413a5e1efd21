"""In flight: what an executor has in hand, a bounded number at a time, each yielded as it is done."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def completed(
    submit: Callable[[Item], Future[Result]],
    following: Callable[[Sequence[Item]], Item | None],
    *,
    goes_on: Callable[[dict[Future[Result], Item]], object],
    slots: Callable[[], int],
    idle: Callable[[], object] = lambda: None,
    poll_seconds: float | None,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Submit what *following* hands out, at most *slots* at a time; yield each item with its future, done.

    *following* is told what is in flight, and returns None when there is nothing for now; it is asked again
    after *poll_seconds* at the latest, or (None) once something is done. *goes_on* is asked before each round and
    sees what is in flight, from which it may remove. *idle* is called when nothing is in flight or to be had.
    """
    running: dict[Future[Result], Item] = {}
    while goes_on(running):
        item = following(tuple(running.values())) if len(running) < slots() else None
        if item is not None:
            running[submit(item)] = item
        elif not running:
            idle()
            continue
        done, _ = wait(running, timeout=poll_seconds if item is None else 0, return_when=FIRST_COMPLETED)
        for future in done:
            yield running.pop(future), future


def in_threads(
    workers: int,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    name: str,
    checkpoint: Callable[[], object] = lambda: None,
    failed: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Item, Result]]:
    """*work* of each item, in *workers* threads, as they are done: the server works, and the threads wait for it.

    *checkpoint* is called before each item and may raise; so may *work*. What is in flight then is waited for,
    after *failed*, which may make it end sooner.
    """
    waiting = deque(items)

    def following(_: Sequence[Item]) -> Item | None:
        if not waiting:
            return None
        checkpoint()
        return waiting.popleft()

    with ThreadPoolExecutor(workers, name) as pool:
        try:
            for item, future in completed(
                lambda item: pool.submit(work, item),
                following,
                goes_on=lambda running: waiting or running,
                slots=lambda: workers,
                poll_seconds=None,
            ):
                yield item, future.result()
        except BaseException:  # Ctrl-C too
            failed()
            raise
