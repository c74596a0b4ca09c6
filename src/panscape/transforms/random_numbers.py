"""Random numbers from a generator."""

from __future__ import annotations

import torch
from torch import Generator


def uniform(low: float, high: float, generator: Generator) -> float:
    """Return a uniform random number from ``low`` to ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def integer(count: int, generator: Generator) -> int:
    """Return a uniform random integer in 0..``count`` - 1."""
    return int(torch.randint(count, (), generator=generator))
