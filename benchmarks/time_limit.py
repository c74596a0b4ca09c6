"""Training in slots: a run is stopped in time, as Ctrl-C would, and goes on in the next slot."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def time_limit(minutes: float) -> Iterator[threading.Event]:
    """Send this process SIGINT when the time is over, which makes a training save a checkpoint and stop.

    Args:
        minutes: from now on; 0 never stops.

    Yields:
        An event that is set when the time is over, for loops over several runs.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(60 * minutes, end)
    timer.daemon = True
    if minutes:
        timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()
