"""`TrainingMonitor`: what must stop a training, or be told about it, while it runs."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

from lightning_fabric import Fabric
from torch import Tensor

from panscape.errors import TrainingDivergedError
from panscape.training.data.loader import Batch
from panscape.training.distributed import Distributed

_MOST_OVERFLOWS = 100  # in a row; a scale of 2 ** 16 is down at 2 ** -84 then, and it cannot be the scale's fault


class Stopped(KeyboardInterrupt):
    """Somebody asked the training to stop, and it did so between two steps."""


class _Seen(NamedTuple):
    step: int
    losses: Mapping[str, Tensor]
    norm: Tensor
    names: Sequence[str]


class TrainingMonitor:
    """Notices losses that are not finite, requests to stop (SIGINT, SIGTERM) and images that were left out.

    On a GPU, losses are looked at one step late, so that nobody waits for them; :meth:`flush_checks` makes up for it
    before anything is saved. With several processes all of them stop at the same step, whoever saw the reason.

    Use it as a context manager: a first signal lets the step in progress end, a second one interrupts at once.

    Args:
        fabric: launched.
        processes: that train together.
        note: is told of every image that is left out for the first time.
        last_checkpoint: says where to go on from after a failure; asked only then.

    Attributes:
        skips: how often each image was left out of training, in this process.
    """

    def __init__(
        self, fabric: Fabric, processes: Distributed, note: Callable[[str], None], last_checkpoint: Callable[[], str]
    ) -> None:
        self.processes, self.note, self.last_checkpoint = processes, note, last_checkpoint
        self.skips: Counter[str] = Counter()
        self._is_late = fabric.device.type != "cpu"
        self._is_scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
        self._is_asked_to_stop = False
        self._num_overflows = 0
        self._seen: _Seen | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._ask_to_stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self._is_asked_to_stop:
            raise KeyboardInterrupt
        self._is_asked_to_stop = True

    def next_batch(self, batches: Iterator[Batch]) -> Batch:
        """Return the next batch; an image that stops one process stops all.

        Raises:
            PanscapeError: see :func:`panscape.training.data.loader.training_batches`.
        """
        batch = self.processes.sync_call(lambda: next(batches))
        for name, reason in batch.skipped:
            self.skips[name] += 1
            if self.skips[name] == 1:
                self.note(f"left out {name}: {reason}")
        return batch

    def all_skips(self) -> Counter[str]:
        """Return how often each image was left out, in all processes; all must call this."""
        return sum(self.processes.all_gather(self.skips), Counter())

    def check(self, step: int, losses: Mapping[str, Tensor], norm: Tensor, names: Sequence[str]) -> None:
        """Look at the losses and the norm of the gradient of a step.

        Raises:
            TrainingDivergedError: those of this step, or on a GPU of the step before, are not finite.
        """
        if self._is_late:
            self.flush_checks()
        self._seen = _Seen(step, losses, norm, names)
        if not self._is_late:
            self.flush_checks()

    def flush_checks(self) -> None:
        """Look at the last step if that was put off.

        Raises:
            TrainingDivergedError: its loss or gradient is not finite.
        """
        if self._seen is None:
            return
        seen, self._seen = self._seen, None
        losses = {name: float(loss) for name, loss in seen.losses.items()}
        has_bad_loss = not all(map(math.isfinite, losses.values()))
        # In half precision a gradient may overflow; its scaler then leaves the step out and takes a smaller scale.
        self._num_overflows = 0 if math.isfinite(float(seen.norm)) else self._num_overflows + 1
        has_bad_gradient = self._num_overflows > (_MOST_OVERFLOWS if self._is_scaled else 0)
        if self.processes.any(has_bad_loss or has_bad_gradient):
            self._fail(seen, losses, has_bad_loss)

    def stop_if_requested(self, step: int) -> None:
        """End the training here if a signal came.

        Raises:
            Stopped: one came, to this process or another.
        """
        if self.processes.any(self._is_asked_to_stop):
            self.processes.fail(Stopped(f"stopped after step {step}"))

    def stop_within(self, step: int) -> None:
        """End an evaluation after ``step`` if a signal came; with several processes it goes on to its end first.

        Raises:
            Stopped: one came.
        """
        if self.processes.count == 1:
            self.stop_if_requested(step)

    def _fail(self, seen: _Seen, losses: Mapping[str, float], has_bad_loss: bool) -> None:
        found = self.processes.all_gather((has_bad_loss, losses, list(seen.names)))
        # Gradients are shared: where no loss is bad, any of the images may be the cause.
        guilty = [process for process in found if process[0]] or found
        names = [name for _, _, those in guilty for name in those]
        self.processes.fail(TrainingDivergedError(seen.step, guilty[0][1], names, self.last_checkpoint()))


def counted(skips: Mapping[str, int]) -> str:
    """Return how often each image was left out, such as ``"a.png (3 times), b.png"``."""
    return ", ".join(f"{name} ({count} times)" if count > 1 else name for name, count in sorted(skips.items()))
