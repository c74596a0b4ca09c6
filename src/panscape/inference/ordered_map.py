"""Ordered map: apply a function to items in background threads, with results in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Generator[R, None, None]:
    """Yield ``function(item)`` for each item in order; threads compute it while the caller's thread produces items.

    An error is raised at its item's position. When the loop over the generator ends early, or an error is raised, items
    that no thread has begun are dropped; close the generator (``contextlib.closing``) to wait for the others.

    Args:
        function: called in several threads at the same time.
        items: produced in the caller's thread, one more than there are workers ahead of the results.
        workers: number of threads.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="ordered_map") as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                while pending and (pending[0].done() or len(pending) > workers):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
