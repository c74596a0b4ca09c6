"""Random numbers from a generator."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator

ScaleDistribution = Literal["uniform", "log_uniform"]
"""Distribution of a random factor: "log_uniform" draws each octave equally often."""


def uniform(low: float, high: float, generator: Generator) -> float:
    """Return a uniform random number from ``low`` to ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def factor(low: float, high: float, distribution: ScaleDistribution, generator: Generator) -> float:
    """Return a random factor from ``low`` to ``high``, both above 0."""
    if distribution == "uniform":
        return uniform(low, high, generator)
    return float(low * (high / low) ** uniform(0, 1, generator))


def integer(count: int, generator: Generator) -> int:
    """Return a uniform random integer in 0..``count`` - 1."""
    return int(torch.randint(count, (), generator=generator))
