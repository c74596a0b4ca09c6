from __future__ import annotations

import threading
from contextlib import closing

import pytest

from panscape.inference.ordered_map import ordered_map


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_items(count: int, workers: int) -> None:
    assert list(ordered_map(lambda n: n * n, range(count), workers)) == [n * n for n in range(count)]


def test_a_slow_item_delays_its_own_result_and_not_the_others_work() -> None:
    others = threading.Semaphore(0)

    def work(number: int) -> int:
        if number == 0:
            assert others.acquire(timeout=60)
            assert others.acquire(timeout=60)
        else:
            others.release()
        return number

    assert list(ordered_map(work, range(3), workers=2)) == [0, 1, 2]


def test_items_are_produced_in_the_callers_thread_and_not_far_ahead() -> None:
    go, produced = threading.Event(), []

    def items():
        for number in range(9):
            produced.append((number, threading.get_ident()))
            yield number

    def work(number: int) -> int:
        assert go.wait(timeout=60)
        return threading.get_ident()

    with closing(ordered_map(work, items(), workers=2)) as results:
        threading.Timer(0.05, go.set).start()  # items beyond the bound would have been produced by then
        assert next(results) != threading.get_ident()
        assert produced == [(number, threading.get_ident()) for number in range(3)]


def test_an_error_comes_at_its_turn_and_ends_the_threads() -> None:
    def work(number: int) -> float:
        return 1 / (2 - number)

    before = threading.active_count()
    results = ordered_map(work, range(100), workers=2)
    assert [next(results), next(results)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_of_the_items_waits_for_work_that_has_begun(error: type[BaseException]) -> None:
    begun, ended = threading.Event(), []

    def work(number: int) -> None:
        begun.set()
        ended.append(number)

    def items():
        yield 0
        assert begun.wait(timeout=60)
        raise error

    with pytest.raises(error):
        list(ordered_map(work, items(), workers=1))
    assert ended == [0]


def test_closing_drops_items_and_ends_the_threads() -> None:
    before, done = threading.active_count(), []
    results = ordered_map(done.append, range(1000), workers=3)
    next(results)
    results.close()
    assert threading.active_count() == before
    assert len(done) < 10
