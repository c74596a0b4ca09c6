"""Where the time of a training step goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import NamedTuple

import torch

from panscape.metrics.tables import format_table

WAIT = "wait for data"
"""The section in which the network waits for the loader."""

_KEEPS_UP = 0.05  # share of waiting up to which nobody need act
_NOTHING = nullcontext()


class SampleTimes(NamedTuple):
    """What one training sample cost the process that prepared it, in seconds.

    Attributes:
        read: reading image and truth.
        augment: varying and cutting them.
        encode: making targets of the truth.
    """

    read: float
    augment: float
    encode: float


class StepProfiler:
    """Measures the sections of training steps, and says what to do about them.

    ::

        with timer.section("forward"):
            outputs = model(images)
        ...
        timer.step_done(len(images))

    A device that works beside the processor is waited for at both ends of each section, which slows training a little;
    a timer that is off does nothing.

    Args:
        is_on: measure.
        device: that computes.
        skip: steps at the beginning that do not count; processes start and kernels are chosen in them.
        clock: gives seconds.
    """

    def __init__(
        self,
        *,
        is_on: bool,
        device: torch.device | None = None,
        skip: int = 3,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.is_on = is_on
        self._device = device
        self._skip = skip
        self._clock = clock
        self._sections: dict[str, float] = {}
        self._samples: list[SampleTimes] = []
        self._num_steps = self._num_images = 0
        self._begun = self._ended = clock() if is_on else 0.0

    def section(self, name: str) -> AbstractContextManager[None]:
        """Add the time of the block to a section; sections do not overlap."""
        return self._measured(name) if self.is_on else _NOTHING

    def step_done(self, images: int) -> None:
        """End a step.

        Args:
            images: that this process trained on in it.
        """
        if not self.is_on:
            return
        self._ended = self._now()
        if self._skip > 0:
            self._skip -= 1
            self._begun = self._ended
            self._sections = dict.fromkeys(self._sections, 0.0)
            self._samples = []
            return
        self._num_steps += 1
        self._num_images += images

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Leave out the time of the block, between two steps: it is no part of any."""
        if not self.is_on:
            yield
            return
        started = self._now()
        try:
            yield
        finally:
            elapsed = self._now() - started
            self._begun += elapsed
            self._ended += elapsed

    def add_samples(self, times: Iterable[SampleTimes]) -> None:
        """Take note of what samples cost the processes that prepared them."""
        if self.is_on:
            self._samples.extend(times)

    @property
    def images_per_second(self) -> float:
        """Of the steps that count; 0 before any."""
        elapsed = self._ended - self._begun
        return self._num_images / elapsed if elapsed > 0 else 0.0

    def report(self, workers: int, processors: int | None = None) -> str:
        """Return a table of the sections, what samples cost, and one line of judgement.

        Args:
            workers: processes that prepare samples; 0 if the training process does.
            processors: that may be used; by default those that this process may run on.
        """
        if self._num_steps == 0:
            return "no step was measured; train for a few more steps"
        whole = self._ended - self._begun
        sections = self._sections | {"other": max(0.0, whole - sum(self._sections.values()))}
        rows = [[f"{self._num_steps} steps, {self.images_per_second:.1f} images/s", "ms a step", "share"]]
        for name, seconds in [*sections.items(), ("together", whole)]:
            rows.append([name, f"{1000 * seconds / self._num_steps:.1f}", _share(seconds / whole)])
        lines = [format_table(rows)]
        if self._samples:
            lines.append(self._cost_of_samples())
        available = _num_processors() if processors is None else processors
        lines.append(_judgement(self._sections.get(WAIT, 0.0) / whole, workers, available))
        return "\n".join(lines)

    def _cost_of_samples(self) -> str:
        count = len(self._samples)
        means = [sum(part) / count for part in zip(*self._samples, strict=True)]
        parts = ", ".join(f"{name} {1000 * s:.1f}" for name, s in zip(SampleTimes._fields, means, strict=True))
        return f"ms a sample: {parts}; one worker prepares {1 / max(sum(means), 1e-9):.1f} samples/s at most"

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        started = self._now()
        try:
            yield
        finally:
            self._sections[name] = self._sections.get(name, 0.0) + self._now() - started

    def _now(self) -> float:
        _wait_for(self._device)
        return self._clock()


def cached_speed(
    step: Callable[[], object],
    images: int,
    rounds: int,
    *,
    device: torch.device | None = None,
    skip: int = 3,
    clock: Callable[[], float] = perf_counter,
) -> float:
    """Return how many images a second a training step takes that needs no loader.

    Args:
        step: trains on a batch that lies in memory.
        images: in the batch.
        rounds: how often it is called.
        device: that computes.
        skip: calls before, which do not count.
        clock: gives seconds.
    """
    for _ in range(skip):
        step()
    _wait_for(device)
    started = clock()
    for _ in range(rounds):
        step()
    _wait_for(device)
    return images * rounds / (clock() - started)


def compare_speeds(loaded: float, cached: float) -> str:
    """Return a line that compares images per second of training with the loader and on one batch in memory."""
    return (
        f"{loaded:.1f} images/s with the loader, {cached:.1f} on one batch held in memory: "
        f"{_share(loaded / cached)} of what is possible"
    )


def _judgement(waiting: float, workers: int, processors: int) -> str:
    if waiting <= _KEEPS_UP:
        return f"the loader keeps up: {_share(waiting)} of the time is spent waiting for data"
    problem = f"the network waits {_share(waiting)} of the time for data"
    if workers < processors:
        return f"{problem}: give more --workers (now {workers})"
    return f"{problem}, and --workers {workers} keep all {processors} processors busy: store smaller images"


def _share(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _num_processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: containers and job managers give a process fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _wait_for(device: torch.device | None) -> None:
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
