"""Anchors: the boxes, of several shapes at every location, from which the first stage regresses its proposals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from panscape.constraints import Positive, PositiveInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Anchors:
    """Anchors of all levels of an FPN; each level has one side length, of its stride times ``scale``.

    torchvision's ``AnchorGenerator`` is not used, as it rounds the sides to pixels.

    Attributes:
        strides: pixels between the locations of each level, ascending.
        scale: side of a square anchor, in strides.
        ratios: height divided by width; the area of an anchor does not depend on it.
        center: place of a location in its cell, 0..1: 0.5 is the centre, 0 the top left corner (detectron2).

    Raises:
        InvalidArgumentError: a value is out of range, or strides do not ascend.
    """

    strides: tuple[PositiveInt, ...] = (4, 8, 16, 32, 64)
    scale: Positive = 8.0
    ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    center: UnitInterval = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.strides or not self.ratios or list(self.strides) != sorted(set(self.strides)):
            raise InvalidArgumentError(
                f"expected ascending strides and at least one ratio, got {self.strides} and {self.ratios}"
            )

    @property
    def num_shapes(self) -> int:
        """Number of anchors at a location."""
        return len(self.ratios)

    def level_sizes(self, padded_size: tuple[int, int]) -> list[tuple[int, int]]:
        """Return rows and columns of locations of each level, for an input of this height and width."""
        height, width = padded_size
        return [(-(-height // stride), -(-width // stride)) for stride in self.strides]

    def num_per_level(self, padded_size: tuple[int, int]) -> list[int]:
        """Return the number of anchors of each level."""
        return [rows * columns * self.num_shapes for rows, columns in self.level_sizes(padded_size)]

    def boxes(self, padded_size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
        """Return all anchors, xyxy in pixels, float32 [A, 4], by level, row, column and ratio; they exceed the image.

        Args:
            padded_size: height and width of the network's input.
            device: device of the result.
        """
        root = torch.tensor(self.ratios, dtype=torch.float32, device=device).sqrt()
        levels = []
        for stride, (rows, columns) in zip(self.strides, self.level_sizes(padded_size), strict=True):
            half = torch.stack([1 / root, root], dim=1) * (stride * self.scale / 2)  # [ratios, 2], x and y
            y, x = ((torch.arange(n, device=device) + self.center) * stride for n in (rows, columns))
            center = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[:, :, None]
            levels.append(torch.cat([center - half, center + half], dim=-1).flatten(0, 2))
        return torch.cat(levels)
