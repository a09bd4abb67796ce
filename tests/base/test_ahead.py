"""The read-ahead: order, bound, exceptions at their place, an end that leaves no thread at work."""

import threading
import time
from itertools import count

import pytest

from mxnet_resnet.base.ahead import compute_ahead


def test_results_come_in_the_order_of_the_items():
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item % 5 == 0 else 0)
        return item * item

    assert list(compute_ahead(slow_at_first, range(23), threads=4)) == [(item, item * item) for item in range(23)]
    assert list(compute_ahead(slow_at_first, [], threads=4)) == []


@pytest.mark.parametrize("threads, most, ahead", [(2, None, 8), (2, 5, 5), (4, 1, 4), (3, 0, 3)])
def test_no_more_is_taken_from_the_items_than_is_allowed(threads, most, ahead):
    taken = []

    def items():
        for item in count():
            taken.append(item)
            yield item

    results = compute_ahead(str, items(), threads, most)
    assert not taken  # nothing begins before the first result is asked for
    for done in range(1, 20):
        assert next(results) == (done - 1, str(done - 1))
        assert len(taken) == done + ahead
    results.close()


def test_threads_work_while_a_result_is_used():
    begun = threading.Semaphore(0)
    results = compute_ahead(lambda item: begun.release(), range(10), threads=2, most=4)
    next(results)
    assert all(begun.acquire(timeout=5) for _ in range(5))  # the one that was taken, and four more
    results.close()


def test_an_exception_of_the_function_comes_in_the_place_of_its_result():
    results = compute_ahead(lambda item: 1 // (item - 3), range(10), threads=4)
    assert [item for item, _ in (next(results) for _ in range(3))] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_exception_of_the_items_comes_behind_what_they_gave():
    def items():
        yield from range(3)
        raise OSError("no more")

    results = compute_ahead(str, items(), threads=4)
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="no more"):
        next(results)


def test_what_has_not_begun_when_it_is_closed_never_does():
    begun, go_on = [], threading.Event()

    def wait(item: int) -> None:
        begun.append(item)
        if item:
            go_on.wait(5)

    before = threading.active_count()
    results = compute_ahead(wait, range(100), threads=2, most=50)
    next(results)
    threading.Timer(0.1, go_on.set).start()
    results.close()
    assert len(begun) <= 3 and threading.active_count() <= before + 1  # the timer may still be ending
