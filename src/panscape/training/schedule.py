"""The learning-rate schedule: its options, and the learning rate of each step."""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import dataclass
from typing import Literal

from panscape.constraints import NonNegative, NonNegativeInt, Positive, PositiveFraction, PositiveInt, check_fields
from panscape.errors import InvalidArgumentError


@dataclass(frozen=True)
class Schedule:
    """Learning-rate schedule: linear warm-up, then decay."""

    kind: Literal["poly", "cosine", "steps", "constant"] = "poly"
    """Kind of decay: "poly" is (1 - progress) ** power, "cosine" half a cosine, "steps" drops at each milestone."""

    power: Positive = 0.9
    """Exponent, for "poly"."""

    min_lr: NonNegative = 0.0
    """Learning rate after the last step, for "poly" and "cosine"."""

    milestones: tuple[PositiveInt, ...] = ()
    """Steps after which the learning rate drops, ascending, for "steps"."""

    gamma: PositiveFraction = 0.1
    """Factor applied to the learning rate at each milestone, for "steps"."""

    warmup_steps: NonNegativeInt = 0
    """Number of warm-up steps; 0 disables warm-up."""

    warmup_factor: PositiveFraction = 1e-3
    """Learning rate of the first warm-up step, as a fraction of the peak."""

    def __post_init__(self) -> None:
        check_fields(self)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise InvalidArgumentError(f"expected ascending milestones, got {self.milestones}")
        if self.kind == "steps" and not self.milestones:
            raise InvalidArgumentError(
                'expected milestones (steps after which the learning rate drops) with kind "steps"'
            )


def learning_rate(step: int, peak: float, schedule: Schedule, steps: int) -> float:
    """Return the learning rate of a step, before the factors of parameter groups.

    With ``i = step - 1`` completed steps, it is ``min_lr + (peak - min_lr) * decay(i / steps)``, or with "steps" the
    peak times ``gamma`` for each milestone of at most ``i``. During warm-up this is multiplied by a factor that grows
    linearly from ``warmup_factor`` at ``i = 0`` to 1 at ``i = warmup_steps``. The decay thus starts with the first
    step, with or without warm-up, and ``min_lr`` would be the rate of the step after the last. detectron2 does the same
    (``WarmupPolyLR``, ``WarmupMultiStepLR``), and without warm-up torch (``PolynomialLR``, ``CosineAnnealingLR``,
    ``MultiStepLR``).

    Args:
        step: 1 to ``steps``.
        peak: the learning rate of the optimizer.
        schedule: warm-up and decay.
        steps: number of steps of the whole training.

    Raises:
        InvalidArgumentError: the step is out of range.
    """
    if not 1 <= step <= steps:
        raise InvalidArgumentError(f"expected a step from 1 to {steps}, got {step}")
    rate = _decayed(step - 1, peak, schedule, steps)
    if step > schedule.warmup_steps:
        return rate
    warm = (step - 1) / schedule.warmup_steps
    return rate * (schedule.warmup_factor * (1 - warm) + warm)


def _decayed(done: int, peak: float, schedule: Schedule, steps: int) -> float:
    if schedule.kind == "poly":
        left: float = (1 - done / steps) ** schedule.power
        return schedule.min_lr + (peak - schedule.min_lr) * left
    if schedule.kind == "cosine":
        return schedule.min_lr + (peak - schedule.min_lr) * 0.5 * (1 + math.cos(math.pi * (done / steps)))
    if schedule.kind == "steps":
        return float(peak * schedule.gamma ** bisect(schedule.milestones, done))
    return peak
