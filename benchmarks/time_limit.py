"""Time limit for trainings in slots: stop a run as Ctrl-C does; it resumes in the next slot."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def time_limit(minutes: float) -> Iterator[threading.Event]:
    """Send SIGINT to this process at the time limit; a training then saves a checkpoint and stops.

    Args:
        minutes: time limit; 0 for none.

    Yields:
        An event that is set at the time limit, for loops over several runs.
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
