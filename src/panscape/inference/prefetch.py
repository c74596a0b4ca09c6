"""Prefetching: read the next images while the network processes the current one."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
_END: Final = object()


def prefetch(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield ``items`` in order while a thread produces the following ones.

    An error while producing an item is raised at that item's position. When the loop over the generator ends early, the
    thread stops after its current item; close the generator (``contextlib.closing``) to wait for it.

    Args:
        items: produced sequentially in one thread.
        depth: maximum number of prefetched items.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        pending: deque[Future[T | object]] = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(next, iterator, _END))
                yield item  # type: ignore[misc]  # anything but _END is a T
        finally:
            for future in pending:
                future.cancel()
