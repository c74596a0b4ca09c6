"""Transforms that cut out a window of a fixed size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from panscape.geometry import Size
from panscape.panoptic import PanopticMap
from panscape.transforms.chance import integer
from panscape.transforms.checks import MEAN_COLOR, Color, require_color, require_pair, require_size
from panscape.transforms.resizing import resize


@runtime_checkable
class Cropping(Protocol):
    """A transform that cuts out a window; :class:`~panscape.transforms.Compose` joins it with the resizing before."""

    def crop_resized(
        self, image: Tensor, truth: PanopticMap, size: Size, generator: Generator
    ) -> tuple[Tensor, PanopticMap]:
        """Return the window of picture and truth as they would be at ``size``, without resizing all of them."""


@dataclass(frozen=True)
class RandomCrop:
    """Cut out a window of a fixed size, all positions equally likely.

    A picture that is smaller than the window is extended on the right and at the bottom, the map with void.

    Attributes:
        size: height and width in pixels.
        fill: red, green, blue of the extension.
    """

    size: tuple[int, int]
    fill: Color = MEAN_COLOR

    def __post_init__(self) -> None:
        require_size(self.size)
        require_color(self.fill)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the window of picture and truth."""
        return self.crop_resized(image, truth, truth.size, generator)

    def crop_resized(
        self, image: Tensor, truth: PanopticMap, size: Size, generator: Generator
    ) -> tuple[Tensor, PanopticMap]:
        """Return the window of picture and truth as they would be at ``size``, without resizing all of them."""
        require_pair(image, truth)
        source, window = [], []
        for wanted, scaled, original in zip(self.size, size, truth.size, strict=True):
            length = min(wanted, scaled)
            start = integer(scaled - length + 1, generator)
            low = min(round(start * original / scaled), original - 1)
            high = round((start + length) * original / scaled)
            source.append(slice(low, max(high, low + 1)))
            window.append(length)
        image = image[:, source[0], source[1]]
        truth = replace(truth, ids=truth.ids[source[0], source[1]].contiguous())
        image, truth = resize(image, truth, Size(*window))
        return _padded(image, self.size, self.fill), truth.pad(*self.size)


def _padded(image: Tensor, size: tuple[int, int], fill: Color) -> Tensor:
    height, width = image.shape[1:]
    if (height, width) == tuple(size):
        return image
    padded = torch.tensor(fill, dtype=torch.uint8)[:, None, None].repeat(1, *size)
    padded[:, :height, :width] = image
    return padded
