"""Reading ahead: the next images are read while the network works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
_END: Final = object()


def prefetch(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield ``items`` in their order while a thread already produces the ones that follow.

    What producing an item raises is raised here, at that item's turn. When the loop over this ends early, the thread
    stops after the item it is at; close the generator (``contextlib.closing``) to wait for that.

    Args:
        items: produced one after the other, in one thread.
        depth: how many items at most are held ready.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as pool:
        pending: deque[Future[T | object]] = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(next, iterator, _END))
                yield item  # type: ignore[misc]  # anything but _END is a T
        finally:
            for future in pending:
                future.cancel()
