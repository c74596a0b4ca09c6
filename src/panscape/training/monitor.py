"""`TrainingMonitor`: stops a training on divergence or on request, and reports skipped images."""

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

_MAX_OVERFLOWS = 100  # consecutive; a scale of 2 ** 16 is then down to 2 ** -84, so the scale is not the cause


class Stopped(KeyboardInterrupt):
    """The training was asked to stop and stopped between two steps."""


class _Seen(NamedTuple):
    step: int
    losses: Mapping[str, Tensor]
    norm: Tensor
    names: Sequence[str]


class TrainingMonitor:
    """Detects non-finite losses and gradients, stop requests (SIGINT, SIGTERM) and skipped images.

    On a GPU, losses are checked one step late, to avoid a synchronisation in every step; :meth:`flush_checks` does the
    pending check before anything is saved. With several processes, all stop at the same step, whichever process found
    the reason.

    Use it as a context manager: a first signal lets the step in progress end, a second one interrupts at once.

    Args:
        fabric: launched.
        processes: the processes of this training.
        note: receives a line the first time an image is skipped.
        last_checkpoint: returns a description of the newest checkpoint; called only after a failure.

    Attributes:
        skips: how often each image was skipped in training, in this process.
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
        """Return the next batch; an error in one process is raised in all.

        Raises:
            PanscapeError: see :func:`panscape.training.data.loader.training_batches`.
        """
        batch = self.processes.sync_call(lambda: next(batches))
        for name, reason in batch.skipped:
            self.skips[name] += 1
            if self.skips[name] == 1:
                self.note(f"skipped {name}: {reason}")
        return batch

    def all_skips(self) -> Counter[str]:
        """Return how often each image was skipped, summed over all processes; all must call this."""
        return sum(self.processes.all_gather(self.skips), Counter())

    def check(self, step: int, losses: Mapping[str, Tensor], norm: Tensor, names: Sequence[str]) -> None:
        """Check the losses and the gradient norm of a step.

        Raises:
            TrainingDivergedError: they are not finite in this step, or on a GPU, in the step before.
        """
        if self._is_late:
            self.flush_checks()
        self._seen = _Seen(step, losses, norm, names)
        if not self._is_late:
            self.flush_checks()

    def flush_checks(self) -> None:
        """Check the last step if its check is pending.

        Raises:
            TrainingDivergedError: its loss or gradient is not finite.
        """
        if self._seen is None:
            return
        seen, self._seen = self._seen, None
        losses = {name: float(loss) for name, loss in seen.losses.items()}
        has_bad_loss = not all(map(math.isfinite, losses.values()))
        # In half precision a gradient may overflow; the gradient scaler then skips the step and reduces its scale.
        self._num_overflows = 0 if math.isfinite(float(seen.norm)) else self._num_overflows + 1
        has_bad_gradient = self._num_overflows > (_MAX_OVERFLOWS if self._is_scaled else 0)
        if self.processes.any(has_bad_loss or has_bad_gradient):
            self._fail(seen, losses, has_bad_loss)

    def stop_if_requested(self, step: int) -> None:
        """Stop the training here if a signal was received.

        Raises:
            Stopped: this or another process received one.
        """
        if self.processes.any(self._is_asked_to_stop):
            self.processes.fail(Stopped(f"stopped after step {step}"))

    def stop_evaluation_if_requested(self, step: int) -> None:
        """Stop an evaluation after ``step`` if a signal was received; with several processes it finishes first.

        Raises:
            Stopped: a signal was received.
        """
        if self.processes.count == 1:
            self.stop_if_requested(step)

    def _fail(self, seen: _Seen, losses: Mapping[str, float], has_bad_loss: bool) -> None:
        found = self.processes.all_gather((has_bad_loss, losses, list(seen.names)))
        # Gradients are averaged over processes: where every loss is finite, any image may be the cause.
        failed = [process for process in found if process[0]] or found
        names = [name for _, _, batch_names in failed for name in batch_names]
        self.processes.fail(TrainingDivergedError(seen.step, failed[0][1], names, self.last_checkpoint()))


def list_skips(skips: Mapping[str, int]) -> str:
    """Return how often each image was skipped, such as ``"a.png (3 times), b.png"``."""
    return ", ".join(f"{name} ({count} times)" if count > 1 else name for name, count in sorted(skips.items()))
