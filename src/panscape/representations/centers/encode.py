"""Training targets of centre-based systems, from an id map.

The generator of Panoptic-DeepLab (Cheng et al., CVPR 2020) with the rules of Panoptic SwiftNet (arXiv 2203.07908),
with the exact arithmetic of the published implementations:

* Pixels are points at integer coordinates. A thing's centre is the mean of its visible pixels in float64.
* The heatmap has a Gaussian at each thing's centre, rounded half to even, over a square window of
  6 sigma + 3 pixels, clipped at the border; where Gaussians overlap, the larger value counts.
* Offsets point from each pixel to the unrounded centre.
* Crowds are part of the semantic target and have a Gaussian, but are ignored in the centre and offset losses.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.ops.jit import jit
from panscape.representations.centers.types import CenterTargets

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def center_targets(
    ids: Tensor,
    category: Tensor,
    is_thing: Tensor,
    is_crowd: Tensor | None = None,
    *,
    sigma: float = 10,
    small_area: int = 4096,
    small_weight: float = 3.0,
    void: int,
) -> CenterTargets:
    """Return the targets of one image.

    Args:
        ids: int32 [H, W], 0 is void, ``s`` is the segment of row ``s - 1``.
        category: int64 [S], the value of each segment in the semantic target.
        is_thing: bool [S], whether each segment is a thing.
        is_crowd: bool [S], whether each segment is a crowd; None if there are none.
        sigma: standard deviation of the Gaussian in pixels. Published: 10 for Cityscapes and Mapillary Vistas, 8 for
            COCO.
        small_area: number of visible pixels below which a thing is small.
        small_weight: semantic weight of small things.
        void: semantic target of void pixels.

    Raises:
        InvalidArgumentError: the ids are not an int32 map, an argument does not have one entry per segment, or sigma is
            not positive.
    """
    if is_crowd is None:
        is_crowd = torch.zeros_like(is_thing)
    _check(ids, category, is_thing, is_crowd, sigma)
    pixels = ids.contiguous().numpy()
    area, sum_y, sum_x = (np.zeros(len(category) + 1, dtype=np.int64) for _ in range(3))
    if not _measure(pixels, area, sum_y, sum_x):
        _refuse_ids(ids, len(category))
    # Tables indexed by id; void is first.
    kind = np.concatenate([[void], category.numpy()])
    thing, single = (np.concatenate([[False], part.numpy()]) for part in (is_thing, ~is_crowd))
    semantic_weights = np.where(thing & (area < small_area), small_weight, 1).astype(np.float32)
    semantic_weights[0] = 0
    offset_weights = (thing & single).astype(np.float32)
    centers = (thing, sum_y / np.maximum(area, 1), sum_x / np.maximum(area, 1))

    # Numpy allocates large arrays in huge pages where available, which torch does not; this halves the time.
    semantic = np.empty(pixels.shape, dtype=np.int64)
    semantic_weight, center_weight = (np.empty(pixels.shape, dtype=np.float32) for _ in range(2))
    # Pixels without a centre or offset keep their initial value, zero.
    center, offset_weight = (np.zeros(pixels.shape, dtype=np.float32) for _ in range(2))
    offset = np.zeros((2, *pixels.shape), dtype=np.float32)
    tables = (kind, semantic_weights, single.astype(np.float32), offset_weights)
    _paint(pixels, *centers, *tables, semantic, semantic_weight, center_weight, offset, offset_weight)
    _stamp(area, *centers, gaussian_kernel(sigma), center)
    maps = (semantic, semantic_weight, center, center_weight, offset, offset_weight)
    return CenterTargets(*(torch.from_numpy(part) for part in maps))


def center_targets_reference(
    ids: Tensor,
    category: Tensor,
    is_thing: Tensor,
    is_crowd: Tensor | None = None,
    *,
    sigma: float = 10,
    small_area: int = 4096,
    small_weight: float = 3.0,
    void: int,
) -> CenterTargets:
    """Plain reference of :func:`center_targets`, one segment at a time as published; the results must be equal."""
    if is_crowd is None:
        is_crowd = torch.zeros_like(is_thing)
    _check(ids, category, is_thing, is_crowd, sigma)
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) > len(category)):
        _refuse_ids(ids, len(category))
    height, width = ids.shape
    stamp = torch.tensor(gaussian_kernel(sigma))
    reach = stamp.shape[0] // 2
    semantic = torch.full(ids.shape, void, dtype=torch.int64)
    semantic_weight, center, center_weight, offset_weight = (torch.zeros(height, width) for _ in range(4))
    offset = torch.zeros(2, height, width)
    for row in range(category.shape[0]):
        mask = ids == row + 1
        area = int(mask.sum())
        if area == 0:
            continue
        semantic[mask] = category[row]
        semantic_weight[mask] = 1.0
        center_weight[mask] = 0.0 if is_crowd[row] else 1.0
        if not is_thing[row]:
            continue
        if area < small_area:
            semantic_weight[mask] = small_weight
        offset_weight[mask] = 0.0 if is_crowd[row] else 1.0
        y, x = mask.nonzero(as_tuple=True)
        center_y, center_x = int(y.sum()) / area, int(x.sum()) / area
        offset[0, y, x] = (center_y - y.double()).float()
        offset[1, y, x] = (center_x - x.double()).float()
        top, left = round(center_y) - reach, round(center_x) - reach  # Python rounds half to even
        rows = slice(max(top, 0), min(top + 2 * reach + 1, height))
        columns = slice(max(left, 0), min(left + 2 * reach + 1, width))
        part = stamp[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        center[rows, columns] = torch.maximum(center[rows, columns], part)
    return CenterTargets(semantic, semantic_weight, center, center_weight, offset, offset_weight)


@lru_cache(maxsize=8)
def gaussian_kernel(sigma: float) -> NDArray[np.float32]:
    """Return the Gaussian around a centre, float32 [2 r + 1, 2 r + 1] with r = 3 sigma + 1, 1 in the middle."""
    reach = math.ceil(3 * sigma) + 1
    square = np.arange(-reach, reach + 1, dtype=np.float64) ** 2
    stamp = np.exp(-(square[:, None] + square) / (2 * float(sigma) ** 2)).astype(np.float32)
    stamp.setflags(write=False)  # the cache returns the same array to every caller
    return stamp


def _check(ids: Tensor, category: Tensor, is_thing: Tensor, is_crowd: Tensor, sigma: float) -> None:
    if ids.ndim != 2 or ids.dtype != torch.int32:
        raise InvalidArgumentError(f"expected ids as int32 [H, W], got {ids.dtype} {list(ids.shape)}")
    for name, part in (("is_thing", is_thing), ("is_crowd", is_crowd)):
        if part.shape != category.shape or part.dtype != torch.bool:
            raise InvalidArgumentError(
                f"expected {name} as bool {list(category.shape)} (one for each segment), "
                f"got {part.dtype} {list(part.shape)}"
            )
    if not sigma > 0:
        raise InvalidArgumentError(f"expected a positive sigma, got {sigma}")


def _refuse_ids(ids: Tensor, num_segments: int) -> NoReturn:
    raise InvalidArgumentError(f"expected ids in 0..{num_segments}, got {int(ids.min())}..{int(ids.max())}")


@jit
def _measure(ids: Ints, area: Longs, sum_y: Longs, sum_x: Longs) -> bool:
    """Sum the pixels of each id and their coordinates; return whether all ids are in range."""
    height, width = ids.shape
    for y in range(height):
        x = 0
        while x < width:
            value = ids[y, x]
            if value < 0 or value >= len(area):
                return False
            first = x
            while x < width and ids[y, x] == value:
                x += 1
            length = x - first
            area[value] += length
            sum_y[value] += length * y
            sum_x[value] += length * (first + x - 1) // 2
    return True


@jit
def _paint(
    ids: Ints,
    thing: Flags,
    center_y: Doubles,
    center_x: Doubles,
    kind: Longs,
    semantic_weights: Floats,
    center_weights: Floats,
    offset_weights: Floats,
    semantic: Longs,
    semantic_weight: Floats,
    center_weight: Floats,
    offset: Floats,
    offset_weight: Floats,
) -> None:
    """Write all maps except the heatmap, one run of equal ids in a row at a time."""
    height, width = ids.shape
    for y in range(height):
        x = 0
        while x < width:
            value = ids[y, x]
            first = x
            while x < width and ids[y, x] == value:
                x += 1
            semantic[y, first:x] = kind[value]
            semantic_weight[y, first:x] = semantic_weights[value]
            center_weight[y, first:x] = center_weights[value]
            if thing[value]:
                offset_weight[y, first:x] = offset_weights[value]
                offset[0, y, first:x] = np.float32(center_y[value] - y)
                for i in range(first, x):
                    offset[1, y, i] = np.float32(center_x[value] - i)


@jit
def _stamp(area: Longs, thing: Flags, center_y: Doubles, center_x: Doubles, stamp: Floats, center: Floats) -> None:
    """Draw each thing's Gaussian, keeping the maximum where Gaussians overlap."""
    height, width = center.shape
    side = stamp.shape[0]
    for row in range(1, len(area)):
        if area[row] == 0 or not thing[row]:
            continue
        top = int(np.rint(center_y[row])) - side // 2
        left = int(np.rint(center_x[row])) - side // 2
        for y in range(max(top, 0), min(top + side, height)):
            for x in range(max(left, 0), min(left + side, width)):
                center[y, x] = max(center[y, x], stamp[y - top, x - left])
