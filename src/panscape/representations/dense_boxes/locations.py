"""Locations of a dense box network, and the conversion of its distances to boxes.

The network has one row-major grid of locations per level of its pyramid, the finest first; strides double from level
to level. The location of cell (y, x) at stride z is the pixel (y z + z // 2, x z + z // 2), and a box is given by the
distances from there to its left, top, right and bottom side. In addition there is the *dense grid*, with half the
finest stride; each of its cells takes the box of one level (Hou et al., "Real-Time Panoptic Segmentation from Dense
Detections", CVPR 2020, arXiv 1912.01202, Equation 14).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.ops.interpolate import upsample
from panscape.ops.source_weights import source_weights


class Pyramid(NamedTuple):
    """The geometry of the locations.

    Attributes:
        padded_size: height and width of the network's input, multiples of ``finest_stride``.
        finest_stride: input pixels per cell of the finest level, even; it doubles with each level.
        num_levels: number of levels, at least 1.
    """

    padded_size: tuple[int, int]
    finest_stride: int
    num_levels: int

    @property
    def dense_size(self) -> Size:
        """Height and width of the dense grid, cells."""
        stride = self.finest_stride // 2
        return Size(self.padded_size[0] // stride, self.padded_size[1] // stride)


def level_sizes(pyramid: Pyramid) -> tuple[Size, ...]:
    """Return the height and width of each level's grid, finest first; each is half of the previous, rounded up.

    Raises:
        InvalidArgumentError: the finest level does not fit the input, or the stride cannot be halved.
    """
    padded_size, finest_stride, num_levels = pyramid
    height, width = padded_size
    if finest_stride < 2 or finest_stride % 2 or min(height, width) < 1 or any(n % finest_stride for n in padded_size):
        raise InvalidArgumentError(
            f"expected an even finest_stride that divides the padded size, got {finest_stride} and {height}x{width}; "
            "pad images to a multiple of the network's stride"
        )
    if num_levels < 1:
        raise InvalidArgumentError(f"expected at least one level, got {num_levels}")
    sizes = [Size(height // finest_stride, width // finest_stride)]
    for _ in range(num_levels - 1):
        sizes.append(Size((sizes[-1].height + 1) // 2, (sizes[-1].width + 1) // 2))
    return tuple(sizes)


def grid_points(size: tuple[int, int], stride: int, device: torch.device | str | None = None) -> Tensor:
    """Return the pixel at the centre of every cell of a grid, float32 [2, h, w], y before x.

    Args:
        size: cells of the grid, (height, width).
        stride: pixels per cell.
        device: device of the result.
    """
    y, x = (torch.arange(n, dtype=torch.float32, device=device) * stride + stride // 2 for n in size)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


def fcos_locations(pyramid: Pyramid, device: torch.device | str | None = None) -> Tensor:
    """Return the locations of all levels, float32 [2, L], y before x."""
    sizes = level_sizes(pyramid)
    return torch.cat(
        [grid_points(s, pyramid.finest_stride << i, device).flatten(1) for i, s in enumerate(sizes)], dim=1
    )


def location_levels(pyramid: Pyramid, device: torch.device | str | None = None) -> Tensor:
    """Return the level of every location, int64 [L], 0 the finest."""
    sizes = level_sizes(pyramid)
    areas = torch.tensor([s.area for s in sizes], device=device)
    return torch.arange(len(sizes), device=device).repeat_interleave(areas)


def distance2box(points: Tensor, distances: Tensor) -> Tensor:
    """Convert distances to boxes, xyxy, in the shape of ``distances``.

    Args:
        points: float32 [2, ...], y before x.
        distances: float [..., 4, ...] to the left, top, right and bottom side; the last axes are those of ``points``.
    """
    axis = -points.ndim
    left, top, right, bottom = distances.unbind(axis)
    y, x = points
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=axis)


def argmax_level(levelness: Tensor, *, with_background: bool) -> Tensor:
    """Return the level whose box each cell of the dense grid takes, int64 [B, h, w]; ties go to the first level.

    Args:
        levelness: logits, float [B, 1 + levels, h, w]; channel 0 is for no object.
        with_background: whether a cell may take no level, -1, as in the paper's Equation 14; the released code ignores
            channel 0.
    """
    first = 0 if with_background else 1
    # Plane by plane, which takes a tenth of the time of torch's argmax across planes.
    best = levelness[:, first]
    level = torch.full(best.shape, first - 1, dtype=torch.int64, device=levelness.device)
    for channel in range(first + 1, levelness.shape[1]):
        level.masked_fill_(levelness[:, channel] > best, channel - 1)
        best = torch.maximum(best, levelness[:, channel])
    return level


def dense_boxes(box: Tensor, level: Tensor | None, pyramid: Pyramid) -> Tensor:
    """Return the boxes of the dense grid from bilinearly upsampled distances, of one level for each cell.

    Gradients flow to ``box``.

    Args:
        box: distances of every location, float [B, 4, L].
        level: int64 [B, 2h, 2w] for a finest level of [h, w]: which level's box each cell takes, -1 for none. None
            returns the boxes of all levels, for networks without levelness.
        pyramid: geometry of the locations.

    Returns:
        float32 [B, D, 4, 2h, 2w], xyxy in pixels of the input, not clipped; D is 1, or without ``level`` the number of
        levels. The box of a cell without a level is empty and lies at the centre of the cell.

    Raises:
        InvalidArgumentError: the shapes do not match the padded size.
    """
    sizes, grid = level_sizes(pyramid), pyramid.dense_size
    num_locations = sum(s.area for s in sizes)
    if box.ndim != 3 or list(box.shape[1:]) != [4, num_locations]:
        raise InvalidArgumentError(
            f"expected box as [B, 4, {num_locations}] for {pyramid.padded_size[0]}x{pyramid.padded_size[1]} pixels and "
            f"{pyramid.num_levels} levels from stride {pyramid.finest_stride}, got {list(box.shape)}"
        )
    if level is not None and list(level.shape) != [box.shape[0], *grid]:
        raise InvalidArgumentError(f"expected level as {[box.shape[0], *grid]}, got {list(level.shape)}")
    box = box.float()
    if level is None:
        begins = np.cumsum([0, *(s.area for s in sizes)]).tolist()
        parts = [box[:, :, b : b + s.area].reshape(-1, 4, *s) for b, s in zip(begins, sizes, strict=False)]
        distances = torch.stack([upsample(p, grid, grid, align_corners=False) for p in parts], dim=1)
    else:
        distances = _of_chosen_level(box, level, sizes, grid)[:, None]
    return distance2box(grid_points(grid, pyramid.finest_stride // 2, box.device), distances)


def _of_chosen_level(box: Tensor, level: Tensor, sizes: tuple[Size, ...], grid: tuple[int, int]) -> Tensor:
    """Upsample as ``upsample`` does, float32 [B, 4, *grid], but compute each cell from its level only."""
    rows, row_fraction, columns, column_fraction = _level_taps(sizes, grid)
    known = level.clamp_min(0)
    y, x = (torch.arange(n, device=box.device) for n in grid)
    # Maps (level, row) to the index of the row's first location, and (level, column) to the column.
    low_row, high_row = (torch.tensor(part, device=box.device)[known, y[:, None]] for part in rows)
    low_column, high_column = (torch.tensor(part, device=box.device)[known, x] for part in columns)
    v = torch.tensor(row_fraction, device=box.device)[known, y[:, None]][:, None]
    u = torch.tensor(column_fraction, device=box.device)[known, x][:, None]

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row + column).flatten(1)[:, None].expand(-1, 4, -1)
        return box.gather(2, index).reshape(-1, 4, *grid)

    top = (1 - u) * at(low_row, low_column) + u * at(low_row, high_column)
    bottom = (1 - u) * at(high_row, low_column) + u * at(high_row, high_column)
    distances = (1 - v) * top + v * bottom
    return distances.masked_fill((level < 0)[:, None], 0)


@lru_cache(maxsize=16)
def _level_taps(
    sizes: tuple[Size, ...], grid: tuple[int, int]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return the sources of all levels as tables [levels, cells]: starts of rows, fractions, columns, fractions."""
    begins = np.cumsum([0, *(s.area for s in sizes[:-1])])
    rows = [source_weights(s.height, grid[0], False, grid[0]) for s in sizes]
    columns = [source_weights(s.width, grid[1], False, grid[1]) for s in sizes]
    low, high = (
        np.stack([b + getattr(t, name).astype(np.int64) * s.width for b, t, s in zip(begins, rows, sizes, strict=True)])
        for name in ("low", "high")
    )
    left, right = (np.stack([getattr(t, name).astype(np.int64) for t in columns]) for name in ("low", "high"))
    return (low, high), np.stack([t.fraction for t in rows]), (left, right), np.stack([t.fraction for t in columns])
