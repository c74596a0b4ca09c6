from __future__ import annotations

import threading
from contextlib import closing

import pytest

from panscape.inference.prefetch import prefetch


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_everything_comes_in_order(count, depth):
    assert list(prefetch(range(count), depth)) == list(range(count))


def test_the_next_items_are_produced_while_this_one_is_used():
    produced = [threading.Event() for _ in range(4)]

    def items():
        for event in produced:
            event.set()
            yield event

    with closing(prefetch(items(), depth=2)) as stream:
        next(stream)
        assert produced[1].wait(timeout=60)
        assert produced[2].wait(timeout=60)
        assert not produced[3].wait(timeout=0.05)  # held back: two are ready already


def test_all_items_are_produced_in_one_other_thread():
    threads = set(prefetch(threading.get_ident() for _ in range(20)))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_comes_at_its_turn():
    def items():
        yield 1
        yield 2
        raise ValueError("the third")

    stream = prefetch(items())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(stream)


def test_closing_waits_for_the_thread_and_ends_it():
    before = threading.active_count()
    stream = prefetch(iter(int, 1))
    next(stream)
    stream.close()
    assert threading.active_count() == before
