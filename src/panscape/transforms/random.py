"""Numbers from a generator."""

from __future__ import annotations

import torch
from torch import Generator


def uniform(low: float, high: float, generator: Generator) -> float:
    """Return a number from ``low`` to ``high``, all equally likely."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def integer(count: int, generator: Generator) -> int:
    """Return one of 0..``count`` - 1, all equally likely."""
    return int(torch.randint(count, (), generator=generator))
