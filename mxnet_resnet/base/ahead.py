"""Work that threads do ahead of whoever takes its results, in order and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


def compute_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, most: int | None = None
) -> Generator[tuple[Item, Result], None, None]:
    """Each item with ``function`` of it, in the order of the items; OpenCV and files let threads use all cores.

    While a result is used, ``most`` more (4 a thread; at least 1 a thread) are computed or wait. An exception, of the
    function or of ``items``, comes where the item would. When the generator is closed, what has not begun never does.
    """
    most = max(4 * threads if most is None else most, threads)
    waiting: deque[tuple[Item, Future]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for task in _start(pool, function, items):
                waiting.append(task)
                if len(waiting) > most:
                    item, future = waiting.popleft()
                    yield item, future.result()
            while waiting:
                item, future = waiting.popleft()
                yield item, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _start(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Future]]:
    """Each item with the future of its result; where ``items`` fails, that is the last future."""
    try:
        for item in items:
            yield item, pool.submit(function, item)
    except Exception as error:
        failed: Future = Future()
        failed.set_exception(error)
        yield cast(Item, None), failed
