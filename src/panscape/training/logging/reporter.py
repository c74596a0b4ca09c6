"""Reporting of a training: progress bar, log lines, metrics files, curves and images."""

from __future__ import annotations

import errno
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from panscape.metrics import EvaluationReport
from panscape.metrics.tables import format_percent
from panscape.progress import ProgressBar, TimeLeft, duration
from panscape.training.logging.event_log import EventLog
from panscape.training.logging.sample_images import save_progress

_logger = logging.getLogger(__name__)

_ESTIMATED_AFTER = 5  # measured steps
_WORTH_AN_ESTIMATE = 60.0  # seconds
_DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reporter:
    """Reports the progress of a training; a context manager.

    A terminal shows a progress bar; without one, a line is logged every ``log_every`` steps. In the folder,
    ``metrics.jsonl`` has one JSON object per line, ``tensorboard/`` the same values as curves, and ``images/`` the
    images of :meth:`image`. A resumed run replaces the entries of its steps.

    A full disk never stops a training: a warning is logged once, and the affected entries are missing. Other disk
    errors are raised.

    Args:
        folder: must exist; None writes no file.
        steps: number of steps of the whole training.
        first_step: first step of this run, 1 unless it is resumed.
        log_every: steps between reports; the last step is always reported.
        clock: returns seconds.
    """

    def __init__(
        self,
        folder: Path | None,
        steps: int,
        first_step: int = 1,
        *,
        log_every: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._steps = steps
        self._step = first_step - 1
        self._log_every = log_every
        self._clock = clock
        self._log = None if folder is None else EventLog(folder, first_step)
        self._bar = ProgressBar("training", steps, done=self._step, clock=clock)
        self._exits = ExitStack()
        self._has_warned = False
        self._losses, self._grad_norm, self._clamp_rate = _Means(), _Means(), _Means()
        self._pace = _Pace()

    def __enter__(self) -> Self:
        self._started = self._clock()
        if self._log is not None:
            self._exits.enter_context(self._log)
            with self._despite_full_disk():
                self._log.open()
        self._exits.enter_context(self._bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def step(
        self,
        step: int,
        losses: Mapping[str, Tensor | float],
        rate: float,
        images: int,
        grad_norm: Tensor | float | None = None,
        is_clamped: Sequence[bool] = (),
    ) -> None:
        """Record a completed step; waits for the device only every ``log_every`` steps.

        A report contains means of this process over the steps since the last report. The first step of a run, which
        includes start-up, is excluded from speed and time left.

        Args:
            step: counted from 1.
            losses: scalars by name; the total is their sum.
            rate: the learning rate.
            images: number of images in the step's batch, over all processes.
            grad_norm: norm of all gradients before clipping.
            is_clamped: for each thing of this process whose scale was drawn, whether the scale was clamped.
        """
        self._step = step
        self._losses.add(losses)
        if grad_norm is not None:
            self._grad_norm.add({"": grad_norm})
        for flag in is_clamped:
            self._clamp_rate.add({"": float(flag)})
        if step % self._log_every == 0 or step == self._steps:
            self._report(step, rate, images)
        else:
            self._pace.step(images, self._clock)
            if self._pace.num_steps == _ESTIMATED_AFTER and not self._bar.is_shown:
                self._estimate(self._steps - step)
        self._bar.update(step)

    def evaluation(
        self, step: int, report: EvaluationReport, losses: Mapping[str, float] | None = None, name: str = "val"
    ) -> None:
        """Report the evaluation of the model after ``step``.

        Args:
            step: of the training.
            report: the metrics.
            losses: the validation losses by name; None if they were not computed.
            name: what was evaluated: the split, or "best" for the model of the best evaluation.
        """
        panoptic, head = report.panoptic, report.semantic_head
        mean_ious = {"mIoU": report.semantic.mean_iou}
        if head is not None:
            mean_ious["mIoU of the semantic head"] = head.mean_iou
        self._log_line(
            f"step {step}: {name} PQ {format_percent(panoptic.all.pq)}, things {format_percent(panoptic.things.pq)}, "
            f"stuff {format_percent(panoptic.stuff.pq)}, "
            + ", ".join(f"{title} {format_percent(value)}" for title, value in mean_ious.items())
            + ("" if losses is None else f", loss {_short(sum(losses.values()))}")
        )
        scalars = {
            f"{name}/PQ": panoptic.all.pq,
            f"{name}/PQ things": panoptic.things.pq,
            f"{name}/PQ stuff": panoptic.stuff.pq,
            **{f"{name}/{title}": value for title, value in mean_ious.items()},
        }
        scalars |= {f"{name} PQ/{category}": quality.pq for category, quality in panoptic.per_category.items()}
        line = {"step": step, "time": self._seconds(), name: report.to_dict()}
        if losses is not None:
            line[f"{name}_losses"] = dict(losses)
            scalars |= {f"{name} loss/{title}": value for title, value in losses.items()}
            scalars[f"{name} loss/total"] = sum(losses.values())
        self._write(line, step, scalars)

    def note(self, text: str) -> None:
        """Report a message as a log line and in the metrics."""
        self._log_line(text)
        self._write({"step": self._step, "note": text}, self._step, {})

    def image(self, step: int, name: str, rgb: Tensor) -> None:
        """Save an image as ``images/step_00001200_NAME.png`` and in TensorBoard.

        Args:
            step: step of the training.
            name: distinguishes images of one step.
            rgb: uint8 [3, H, W].
        """
        if self._folder is None or self._log is None:
            return
        with self._despite_full_disk():
            save_progress(self._folder, step, name, rgb)
        with self._despite_full_disk():
            self._log.image(step, name, rgb)

    @contextmanager
    def paused(self, activity: str) -> Iterator[None]:
        """Exclude the time of the block from the speed, and show ``activity``, such as "evaluating", at the bar."""
        started = self._clock()
        self._bar.rename(activity)
        try:
            yield
        finally:
            self._pace.exclude(self._clock() - started)
            self._bar.rename("training")

    # Formatting and output

    def _estimate(self, steps_left: int) -> None:
        """Log the time left long before the first report, unless it is short."""
        seconds = self._pace.seconds_left(self._clock(), steps_left)
        if seconds >= _WORTH_AN_ESTIMATE:
            self._log_line(f"about {duration(seconds)} for the other {steps_left} steps, without evaluations")

    def _report(self, step: int, rate: float, images: int) -> None:
        losses, grad_norm = self._losses.take(), self._grad_norm.take().get("")
        # Reading the losses has synchronised the device, so the clock is read here.
        self._pace.step(images, self._clock)
        speed, left = self._pace.take(self._clock(), self._steps - step)
        total = sum(losses.values())
        parts = ", ".join(f"{name} {_short(value)}" for name, value in [*losses.items(), ("total", total)])
        clamp_rate = self._clamp_rate.take().get("")
        if clamp_rate is not None:
            parts += f", clamped scales {format_percent(clamp_rate)} %"
        pace = [f"rate {_scientific(rate)}"] + ([] if speed is None else [f"{speed:.1f} images/s"])
        if self._bar.is_shown:
            self._bar.show("; ".join([*pace[::-1], parts]))
        pace += [f"{duration(left)} left"] if left else []
        line = "; ".join([f"step {step}/{self._steps}: {parts}", *pace])
        self._log_line(line, logging.DEBUG if self._bar.is_shown else logging.INFO)
        numbers = {"total": total, "rate": rate, "grad_norm": grad_norm, "images_per_second": speed}
        if clamp_rate is not None:
            numbers["clamp_rate"] = clamp_rate
        rounded = {name: None if value is None else _rounded(value) for name, value in numbers.items()}
        means = {name: _rounded(value) for name, value in losses.items()}
        scalars = {f"loss/{name}": value for name, value in losses.items()} | {
            "loss/total": total,
            "training/learning rate": rate,
            "training/gradient norm": grad_norm,
            "training/images per second": speed,
        }
        if clamp_rate is not None:
            scalars["training/clamp rate"] = clamp_rate
        self._write({"step": step, "time": self._seconds(), "losses": means, **rounded}, step, scalars)

    def _seconds(self) -> float:
        before = 0.0 if self._log is None else self._log.time_before
        return round(before + self._clock() - self._started, 3)

    def _write(self, line: Mapping[str, Any], step: int, scalars: Mapping[str, float | None]) -> None:
        if self._log is None:
            return
        with self._despite_full_disk():
            self._log.line(line)
        with self._despite_full_disk():
            self._log.scalars(step, scalars)

    @contextmanager
    def _despite_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _DISK_IS_FULL:
                raise
            if not self._has_warned:
                self._has_warned = True
                _logger.warning(
                    "no space left for the logs in %s at step %d; training continues, but some entries will be "
                    "missing, and checkpoints need space: free some",
                    self._folder,
                    self._step,
                )

    def _log_line(self, text: str, level: int = logging.INFO) -> None:
        _logger.log(level, "%s", text)


class NullReporter(Reporter):
    """Reports nothing, for processes other than rank 0; never waits for the device."""

    def __init__(self) -> None:
        """Create a reporter without a folder."""
        super().__init__(None, 1, log_every=1)
        self._bar = ProgressBar("training", is_hidden=True)

    def step(
        self,
        step: int,
        losses: Mapping[str, Tensor | float],
        rate: float,
        images: int,
        grad_norm: Tensor | float | None = None,
        is_clamped: Sequence[bool] = (),
    ) -> None:
        """Do nothing."""

    def _log_line(self, text: str, level: int = logging.INFO) -> None:
        """Do nothing."""


class _Means:
    """Means by name, accumulated on the device of the values."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._count = 0

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        for name, value in values.items():
            number = value.detach().float() if isinstance(value, Tensor) else value
            # The sum is a new tensor: replayed CUDA graphs write each step's loss into the same memory.
            self._sums[name] = self._sums.get(name, 0.0) + number
        self._count += 1

    def take(self) -> dict[str, float]:
        """Return the means since the last call, with one device synchronisation."""
        tensors = {name: value for name, value in self._sums.items() if isinstance(value, Tensor)}
        numbers = {name: value for name, value in self._sums.items() if not isinstance(value, Tensor)}
        if tensors:
            device = next(iter(tensors.values())).device
            stacked = torch.stack([value.reshape(()).to(device) for value in tensors.values()])
            numbers |= dict(zip(tensors, stacked.tolist(), strict=True))
        means = {name: numbers[name] / self._count for name in self._sums}
        self._sums, self._count = {}, 0
        return means


class _Pace:
    """Training speed, measured from the end of the first step."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._time_left = TimeLeft()
        self._since = 0.0
        self._excluded = 0.0
        self._num_images = 0
        self.num_steps = 0

    def step(self, images: int, clock: Callable[[], float]) -> None:
        if self._begun is None:
            self._begun = self._since = clock()
            self._time_left.update(0, self._begun)
            self._excluded = 0.0
        else:
            self._num_images += images
            self.num_steps += 1

    def exclude(self, seconds: float) -> None:
        self._excluded += seconds

    def seconds_left(self, now: float, steps_left: int) -> float:
        """Return the seconds left at the mean speed since the first step, after at least one more step."""
        self._time_left.update(self.num_steps, now)
        return self._time_left.seconds(self.num_steps + steps_left) or 0.0

    def take(self, now: float, steps_left: int) -> tuple[float | None, float | None]:
        """Return images per second since the last call, and seconds left as :meth:`seconds_left`."""
        if self._begun is None or self.num_steps == 0:
            return None, None
        elapsed = now - self._since - self._excluded
        speed = self._num_images / elapsed if elapsed > 0 else None
        left = self.seconds_left(now, steps_left)
        self._since, self._excluded, self._num_images = now, 0.0, 0
        return speed, left


# Number formatting


def _scientific(value: float) -> str:
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _short(value: float) -> str:
    return _scientific(value) if 0 < abs(value) < 0.01 else f"{value:.3f}"


def _rounded(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
