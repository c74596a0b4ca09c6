"""Time of consecutive stages of a computation on a device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


class Stopwatch:
    """Measures consecutive stages; a stage lasts from the end of the previous one until the device is idle.

    Args:
        device: device of the computation.
        clock: returns elapsed seconds.
        cpu_clock: returns the seconds of all processors that this process has used.

    Attributes:
        elapsed: seconds by stage.
        cpu: seconds of all processors by stage.
    """

    def __init__(
        self,
        device: torch.device,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._device, self._clock, self._cpu_clock = device, clock, cpu_clock
        self.elapsed: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._started = self._now()

    def lap(self, stage: str) -> None:
        """End a stage; a second stage of the same name is added to the first."""
        now = self._now()
        for seconds, start, end in zip((self.elapsed, self.cpu), self._started, now, strict=True):
            seconds[stage] = seconds.get(stage, 0.0) + end - start
        self._started = now

    def _now(self) -> tuple[float, float]:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return self._clock(), self._cpu_clock()
