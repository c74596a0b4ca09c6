"""Resizing transforms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from panscape.constraints import Positive, PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.panoptic import PanopticMap
from panscape.transforms.checks import require_pair
from panscape.transforms.random_numbers import ScaleDistribution, factor, integer


@runtime_checkable
class ResizeTransform(Protocol):
    """A transform that only changes the size.

    :class:`~panscape.transforms.Compose` merges it with the following crop.
    """

    def new_size(self, size: Size, generator: Generator) -> Size:
        """Return the new size of an image of ``size``."""


@dataclass(frozen=True)
class Resize:
    """Resize to a fixed size.

    Attributes:
        size: height and width in pixels.
    """

    size: tuple[PositiveInt, PositiveInt]

    def __post_init__(self) -> None:
        check_fields(self)

    def new_size(self, size: Size, generator: Generator) -> Size:
        """Return the fixed size."""
        return Size(*self.size)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return image and ground truth at the fixed size."""
        return resize(image, truth, self.new_size(truth.size, generator))


@dataclass(frozen=True)
class ScaleJitter:
    """Resize by a random factor from ``low`` to ``high``; the aspect ratio is kept up to rounding.

    Attributes:
        low: smallest factor, above 0.
        high: largest factor.
        distribution: of the factor; "log_uniform" enlarges and reduces equally often if ``low`` is 1 / ``high``.
    """

    low: Positive
    high: Positive
    distribution: ScaleDistribution = "uniform"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.low > self.high:
            raise InvalidArgumentError(f"expected low <= high, got low {self.low} and high {self.high}")

    def new_size(self, size: Size, generator: Generator) -> Size:
        """Return ``size`` times a random factor, at least one pixel."""
        return scaled(size, factor(self.low, self.high, self.distribution, generator))

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return image and ground truth at a random scale."""
        return resize(image, truth, self.new_size(truth.size, generator))


@dataclass(frozen=True)
class ResizeShortestEdge:
    """Resize so that the shorter side has one of several lengths, chosen uniformly.

    Attributes:
        sides: lengths in pixels.
        longest: maximum length of the longer side in pixels; it reduces the scale if necessary.
    """

    sides: tuple[PositiveInt, ...]
    longest: PositiveInt

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.sides:
            raise InvalidArgumentError("expected at least one length as sides, got none")

    def new_size(self, size: Size, generator: Generator) -> Size:
        """Return ``size`` scaled to a random side length."""
        side = self.sides[integer(len(self.sides), generator)]
        return scaled(size, min(side / min(size), self.longest / max(size)))

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return image and ground truth with a random length of the shorter side."""
        return resize(image, truth, self.new_size(truth.size, generator))


def resize(image: Tensor, truth: PanopticMap, size: Size) -> tuple[Tensor, PanopticMap]:
    """Return image and ground truth at ``size``, without segments that have no pixels left."""
    require_pair(image, truth)
    if size == truth.size:
        return image.contiguous(), truth.compact()
    is_one_pixel = tuple(size) == (1, 1)  # of bytes, torch cannot make it: an internal assertion fails
    values = image[None].float() if is_one_pixel else image[None]
    image = F.interpolate(values, tuple(size), mode="bilinear", antialias=True)[0].contiguous()
    if is_one_pixel:
        image = image.round().to(torch.uint8)
    rows, columns = map(nearest, size, truth.size)
    return image, truth.take(rows, columns).compact()


def nearest(new: int, old: int) -> Tensor:
    """Return the source pixel at the center of each of ``new`` pixels, int64, aligned with the resized image."""
    return (2 * torch.arange(new) + 1) * old // (2 * new)  # exact, in integers


def scaled(size: Size, scale: float) -> Size:
    """Return ``size`` times a factor, at least one pixel."""
    return Size(*(max(1, math.floor(length * scale + 0.5)) for length in size))
