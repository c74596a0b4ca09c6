"""Training targets of systems that predict a box at every location, from an id map.

The rules of Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020, Sections 4.1 and 5.6);
details that the paper leaves open follow FCOS (Tian et al., ICCV 2019):

* A location is a pixel. It predicts the full box of the object at this pixel: positive locations are defined by the
  mask, not by the box or its centre. An object that covers no location's pixel has no location.
* A box is half-open, so that the distances to its sides are at least 0 on the left and above, 1 on the right and below.
* A location of a level is positive if the largest of its four distances is in the level's range, both ends included: at
  the end of a range, two levels are positive. Otherwise the location is background in this level.
* Locations on void, on crowds and outside the image are ignored.
* With supervision by boxes (Table 3, last row) a location inside a box belongs to its object, whatever its pixel is;
  inside several boxes, to the smallest whose distances are in the level's range, ties to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

Supervision = Literal["masks", "boxes"]


class DenseBoxTargetMaps(NamedTuple):
    """The result of :func:`dense_box_targets`; L are the locations of all levels, finest first, in row-major order.

    Attributes:
        box_category: int64 [L], the index of the object's category; 0 background, -1 ignored.
        box: float32 [4, L], distances to the left, top, right and bottom side in pixels; 0 without an object.
        levelness: int64 [h, w], the level, from 1 on, whose range contains the largest distance, at the end of a range
            the finer one; 0 no object, -1 ignored. The grid is twice as fine as the finest level.
        segment: int32 [h, w], the object at the cell, as its row in the map plus 1; 0 for none.
        location_segment: int32 [L], the object whose box the location predicts, in the same way; 0 for none.
    """

    box_category: Tensor
    box: Tensor
    levelness: Tensor
    segment: Tensor
    location_segment: Tensor


def dense_box_targets(
    ids: Tensor,
    boxes: Tensor,
    category: Tensor,
    is_crowd: Tensor,
    *,
    level_ends: Sequence[float],
    finest_stride: int,
    supervision: Supervision = "masks",
) -> DenseBoxTargetMaps:
    """Return the targets of one image.

    Args:
        ids: int32 [H, W], sides multiples of ``finest_stride``; 0 is void, ``s`` is the segment of row ``s - 1``.
        boxes: float32 [S, 4], tight box of each segment, xyxy, half-open.
        category: int64 [S], the index of each object's category, from 1 on; 0 is stuff.
        is_crowd: bool [S], whether each segment is a crowd, which is ignored.
        level_ends: largest distance of each level except the last, pixels, ascending.
        finest_stride: pixels between locations of the first level, even; it doubles with each level.
        supervision: whether the mask or the box of an object defines its locations.

    Raises:
        InvalidArgumentError: the ids are not an int32 map or exceed the segments, or a side is not a multiple of
            ``finest_stride``.
    """
    _check(ids, len(category), finest_stride)
    height, width = ids.shape
    is_object = (category > 0) & ~is_crowd
    # Tables indexed by id; void is first.
    number = np.concatenate([[-1], torch.where(is_crowd, -1, category).numpy()])
    corners = np.concatenate([np.zeros((1, 4), np.float32), boxes.numpy()])
    objects = np.flatnonzero(np.concatenate([[False], is_object.numpy()]))
    ends = np.array(level_ends, np.float32)
    starts, stops = np.append(np.float32(0), ends), np.append(ends, np.float32(np.inf))

    def assigned(grid: _Grid, low: np.float32, high: np.float32) -> tuple[Ints, Floats, Ints]:
        """Return the object in range at each cell, its distances, and the id of the pixel's segment."""
        pixel = grid.sampled(ids.numpy())
        if supervision == "masks":
            segment = np.where(number[pixel] > 0, pixel, 0)
            distances = grid.distances(corners[segment])
            reach = distances.max(0)
            segment = np.where((reach >= low) & (reach <= high), segment, 0).astype(np.int32)
        else:
            segment = _smallest_boxes(grid, corners, objects, low, high)
            distances = grid.distances(corners[segment])
        return segment, np.where(segment > 0, distances, np.float32(0)), number[pixel]

    numbers, distances, segments = [], [], []
    for level, (low, high) in enumerate(zip(starts, stops, strict=True)):
        stride = finest_stride * 2**level
        segment, distance, own = assigned(_Grid(height, width, stride), low, high)
        numbers.append(np.where(segment > 0, number[segment], np.where(own < 0, -1, 0)).ravel())
        distances.append(distance.reshape(4, -1))
        segments.append(segment.ravel())
    dense, distance, own = assigned(_Grid(height, width, finest_stride // 2), np.float32(0), np.float32(np.inf))
    level = np.searchsorted(ends, distance.max(0), side="left") + 1
    return DenseBoxTargetMaps(
        torch.from_numpy(np.concatenate(numbers).astype(np.int64)),
        torch.from_numpy(np.concatenate(distances, axis=1)),
        torch.from_numpy(np.where(dense > 0, level, np.where(own < 0, -1, 0)).astype(np.int64)),
        torch.from_numpy(dense),
        torch.from_numpy(np.concatenate(segments)),
    )


class _Grid:
    """The cells of one stride, which may reach beyond the image, and the pixels at their centres."""

    def __init__(self, height: int, width: int, stride: int) -> None:
        self.y, self.x = (np.arange(-(-side // stride)) * stride + stride // 2 for side in (height, width))

    def sampled(self, ids: Ints) -> Ints:
        """Return the id at each cell's pixel; void outside the image."""
        height, width = ids.shape
        sampled = ids[np.ix_(np.minimum(self.y, height - 1), np.minimum(self.x, width - 1))]
        sampled[self.y >= height] = 0
        sampled[:, self.x >= width] = 0
        return sampled

    def distances(self, corners: Floats) -> Floats:
        """Return the distances [4, h, w] from the cells to the sides of boxes [h, w, 4]."""
        x, y = self.x.astype(np.float32), self.y.astype(np.float32)[:, None]
        left, top, right, bottom = np.moveaxis(corners, -1, 0)
        return np.stack([x - left, y - top, right - x, bottom - y])


def _smallest_boxes(
    grid: _Grid, corners: Floats, objects: NDArray[np.int64], low: np.float32, high: np.float32
) -> Ints:
    """Return the object with the smallest box around each cell whose largest distance is in the range."""
    segment = np.zeros((len(grid.y), len(grid.x)), np.int32)
    area = (corners[objects, 2] - corners[objects, 0]) * (corners[objects, 3] - corners[objects, 1])
    # Boxes overwrite each other in descending size; of equally large boxes, the first is written last.
    for s in objects[np.argsort(area, kind="stable")[::-1]]:
        left, top, right, bottom = corners[s]
        columns = slice(np.searchsorted(grid.x, left, "right"), np.searchsorted(grid.x, right, "left"))
        rows = slice(np.searchsorted(grid.y, top, "right"), np.searchsorted(grid.y, bottom, "left"))
        x, y = grid.x[columns], grid.y[rows]
        reach = np.maximum(np.maximum(x - left, right - x), np.maximum(y - top, bottom - y)[:, None])
        segment[rows, columns][(reach >= low) & (reach <= high)] = s
    return segment


def _check(ids: Tensor, num_segments: int, finest_stride: int) -> None:
    if ids.ndim != 2 or ids.dtype != torch.int32:
        raise InvalidArgumentError(f"expected ids as int32 [H, W], got {ids.dtype} {list(ids.shape)}")
    if finest_stride < 2 or finest_stride % 2:
        raise InvalidArgumentError(f"expected an even finest_stride of at least 2, got {finest_stride}")
    height, width = ids.shape
    if height % finest_stride or width % finest_stride:
        raise InvalidArgumentError(
            f"expected sides that are multiples of {finest_stride}, got {height}x{width}; pad the map with void"
        )
    if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) <= num_segments):
        raise InvalidArgumentError(f"expected ids in 0..{num_segments}, got {int(ids.min())}..{int(ids.max())}")
