"""`Watch`: what must stop a training, or be told about it, while it runs."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from panscape.errors import TrainingDivergedError


class Stopped(KeyboardInterrupt):
    """Somebody asked the training to stop, and it did so between two steps."""


class _Seen(NamedTuple):
    step: int
    losses: Mapping[str, Tensor]
    norm: Tensor
    names: Sequence[str]


class Watch:
    """Notices losses that are not finite, requests to stop (SIGINT, SIGTERM) and samples that were skipped.

    On a GPU, losses are looked at one step late, so that nobody waits for them; :meth:`look_back` makes up for it
    before anything is saved. With several processes all of them stop at the same step, whoever saw the reason.

    Use it as a context manager: a first signal lets the step in progress end, a second one interrupts at once.

    Args:
        fabric: launched.
        note: is told of every picture that is skipped for the first time.
        last_checkpoint: says where to go on from after a failure; asked only then.
    """

    def __init__(self, fabric: Fabric, note: Callable[[str], None], last_checkpoint: Callable[[], str]) -> None:
        self.fabric, self.note, self.last_checkpoint = fabric, note, last_checkpoint
        self.skips: Counter[str] = Counter()
        self._is_asked_to_stop = False
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

    def skipped(self, name: str, reason: str) -> None:
        """Take note of a picture that could not be used."""
        self.skips[name] += 1
        if self.skips[name] == 1:
            self.note(f"left out {name}: {reason}")

    def all_skips(self) -> Counter[str]:
        """Return how often each picture was skipped, in all processes; all must call this."""
        if self.fabric.world_size == 1:
            return self.skips
        found = [self.skips] * self.fabric.world_size
        torch.distributed.all_gather_object(found, self.skips)
        return sum(found, Counter())

    def look(self, step: int, losses: Mapping[str, Tensor], norm: Tensor, names: Sequence[str]) -> None:
        """Look at the losses and the norm of the gradient of a step.

        Raises:
            TrainingDivergedError: those of this step, or on a GPU of the step before, are not finite.
        """
        if self.fabric.device.type != "cpu":
            self.look_back()
        self._seen = _Seen(step, losses, norm, names)
        if self.fabric.device.type == "cpu":
            self.look_back()

    def look_back(self) -> None:
        """Look at the last step if that was put off.

        Raises:
            TrainingDivergedError: its loss or gradient is not finite.
        """
        if self._seen is None:
            return
        seen, self._seen = self._seen, None
        own = not all(math.isfinite(float(loss)) for loss in seen.losses.values())
        # In half precision a gradient may overflow; its scaler then leaves the step out and takes a smaller scale.
        is_scaled = getattr(self.fabric.strategy.precision, "scaler", None) is not None
        wrong = own or not (is_scaled or math.isfinite(float(seen.norm)))
        if self._anybody(wrong):
            self._fail(seen, own)

    def stop_if_asked(self, step: int) -> None:
        """End the training here if a signal came.

        Raises:
            Stopped: one came, to this process or another.
        """
        if self._anybody(self._is_asked_to_stop):
            raise Stopped(f"stopped after step {step}")

    def _anybody(self, flag: bool) -> bool:
        if self.fabric.world_size == 1:
            return flag
        count = torch.tensor(float(flag), device=self.fabric.device)
        return float(cast(Tensor, self.fabric.all_reduce(count, reduce_op="sum"))) > 0

    def _fail(self, seen: _Seen, own: bool) -> None:
        values = {name: float(loss) for name, loss in seen.losses.items()}
        report = (list(seen.names), values) if own else ([], {})
        reports = [report]
        if self.fabric.world_size > 1:
            reports = [report] * self.fabric.world_size
            torch.distributed.all_gather_object(reports, report)
        guilty = [name for names, _ in reports for name in names]
        losses = next((v for _, v in reports if v), None)
        raise TrainingDivergedError(seen.step, losses, guilty or list(seen.names), self.last_checkpoint())
