"""Profiling of training steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import NamedTuple

import torch

from panscape.metrics.tables import format_table

WAIT = "wait for data"
"""Name of the section in which the network waits for the data loader."""

_ACCEPTABLE_WAIT = 0.05  # share of waiting time up to which no action is needed
_NOTHING = nullcontext()


class SampleTimes(NamedTuple):
    """Preparation time of one training sample in its process, in seconds.

    Attributes:
        read: reading image and ground truth.
        augment: augmentation and cropping.
        encode: encoding the ground truth into targets.
    """

    read: float
    augment: float
    encode: float


class StepProfiler:
    """Measures the sections of training steps and recommends how to speed them up.

    ::

        with timer.section("forward"):
            outputs = model(images)
        ...
        timer.step_done(len(images))

    An accelerator is synchronised at both ends of each section, which slows training slightly; a profiler that is off
    does nothing.

    Args:
        is_on: whether to measure.
        device: the device of the training.
        skip: number of initial steps to exclude, in which processes start and kernels are selected.
        clock: returns seconds.
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
            images: number of images of this process in the step.
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
        """Exclude the time of the block, which lies between two steps."""
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
        """Record the preparation times of samples."""
        if self.is_on:
            self._samples.extend(times)

    @property
    def images_per_second(self) -> float:
        """Images per second over the measured steps; 0 before any."""
        elapsed = self._ended - self._begun
        return self._num_images / elapsed if elapsed > 0 else 0.0

    def report(self, workers: int, processors: int | None = None) -> str:
        """Return a table of the sections, the preparation times of samples, and a recommendation.

        Args:
            workers: number of loader processes; 0 if the training process loads samples.
            processors: number of available processors; by default those that this process may run on.
        """
        if self._num_steps == 0:
            return "no step was measured; train for more steps"
        whole = self._ended - self._begun
        sections = self._sections | {"other": max(0.0, whole - sum(self._sections.values()))}
        rows = [[f"{self._num_steps} steps, {self.images_per_second:.1f} images/s", "ms per step", "share"]]
        for name, seconds in [*sections.items(), ("total", whole)]:
            rows.append([name, f"{1000 * seconds / self._num_steps:.1f}", _share(seconds / whole)])
        lines = [format_table(rows)]
        if self._samples:
            lines.append(self._cost_of_samples())
        available = _num_processors() if processors is None else processors
        lines.append(_recommendation(self._sections.get(WAIT, 0.0) / whole, workers, available))
        return "\n".join(lines)

    def _cost_of_samples(self) -> str:
        count = len(self._samples)
        means = [sum(part) / count for part in zip(*self._samples, strict=True)]
        parts = ", ".join(f"{name} {1000 * s:.1f}" for name, s in zip(SampleTimes._fields, means, strict=True))
        return f"ms per sample: {parts}; one worker prepares {1 / max(sum(means), 1e-9):.1f} samples/s at most"

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
    """Return the images per second of training steps without data loading.

    Args:
        step: trains on a batch in memory.
        images: number of images in the batch.
        rounds: number of measured calls.
        device: the device of the training.
        skip: number of calls before the measurement.
        clock: returns seconds.
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
    """Return a line that compares the throughput with the data loader to that on one batch in memory."""
    return (
        f"{loaded:.1f} images/s with the data loader, {cached:.1f} on one batch in memory: "
        f"{_share(loaded / cached)} of the maximum"
    )


def _recommendation(waiting: float, workers: int, processors: int) -> str:
    if waiting <= _ACCEPTABLE_WAIT:
        return f"the data loader is fast enough: {_share(waiting)} of the time is spent waiting for data"
    problem = f"the network waits for data {_share(waiting)} of the time"
    if workers < processors:
        return f"{problem}: use more --workers (now {workers})"
    return f"{problem}, and --workers {workers} already use all {processors} processors: store smaller images"


def _share(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _num_processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: containers and job managers may restrict a process to some processors
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _wait_for(device: torch.device | None) -> None:
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
