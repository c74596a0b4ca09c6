"""Data-loader processes: their initialisation, and the error for their death."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from panscape.errors import PanscapeError, WorkerDiedError

_DEATH = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) "
    r"(exited unexpectedly(?: with exit code -?\d+)?|is killed by signal: [^.]*)"
)


@contextmanager
def explain_worker_death() -> Iterator[None]:
    """Turn torch's error about the death of a loader process into :class:`~panscape.errors.WorkerDiedError`.

    The death is reported by a signal, so torch's error is raised wherever the training is at that moment: wrap the
    whole loop. If torch is writing a file at that moment, it raises another error about the file, with the death as its
    context.
    """
    try:
        yield
    except RuntimeError as error:
        death = None if isinstance(error, PanscapeError) else _death_behind(error)
        if death is None:
            raise
        raise WorkerDiedError(f"process {death[1]} {death[2]}") from error


def _death_behind(error: BaseException | None) -> re.Match[str] | None:
    while error is not None:
        if death := _DEATH.search(str(error)):
            return death
        error = error.__context__
    return None


def _start_worker(_: int) -> None:
    # Ctrl-C and job managers signal all processes; the main process handles the signal and stops the others.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def _as_it_is(item: Any) -> Any:
    return item
