"""Weights of the boundary-aware offset loss: largest at the boundaries of segments.

Boundary-aware offset loss of Panoptic SwiftNet (arXiv 2203.07908, Section 2.2). Each segment is divided into regions by
the distance of its pixels to its own boundary, and the weight decreases from region to region towards the interior.

The distance of a pixel is the Euclidean distance to the nearest pixel of another segment or of void; pixels on the
boundary have distance 1. The border of the image is not a boundary. Distances are exact here, where the published
implementation uses a chamfer approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.ops.jit import jit

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]

Thresholds = Literal["released", "equal"]
NO_BOUNDARY = 2**31 - 1  # squared distance in an image with a single segment
_FAR = 2**30  # above any squared distance in an image whose sides are at most
_LONGEST_SIDE = 23169


def boundary_weights(
    ids: Tensor,
    num_segments: int,
    alphas: Sequence[float] = (8, 4, 2, 1),
    thresholds: Thresholds = "released",
) -> Tensor:
    """Return the weight of every pixel.

    With a pixel's distance d, the largest distance D in its segment and n alphas, a pixel gets the alpha whose index is
    the number of thresholds that d reaches:

    * "released", the published code: D/(n-1), 2D/(n-1), .. D; the last alpha is for the ridge, where d equals D.
    * "equal", the text of the paper: D/n, 2D/n, .. (n-1)D/n.

    A segment that fills the image has no boundary and gets the last alpha.

    Args:
        ids: int32 [H, W], 0 is void, values up to ``num_segments``.
        num_segments: number of segments.
        alphas: weights from the boundary inwards.
        thresholds: how the regions are bounded, see above.

    Returns:
        float32 [H, W], 0 on void.

    Raises:
        InvalidArgumentError: the ids are not an int32 map or exceed ``num_segments``, there is no alpha, or
            ``thresholds`` is unknown.
    """
    _check(ids, alphas, thresholds)
    ids = ids.contiguous()
    squared = np.empty(ids.shape, dtype=np.int32)
    largest = np.zeros(num_segments + 1, dtype=np.int32)
    if not _measure_columns(ids.numpy(), num_segments, squared):
        _refuse_ids(ids, num_segments)
    _measure_rows(ids.numpy(), squared, largest)
    limits = squared_thresholds(largest.astype(np.int64), len(alphas), thresholds)
    weights = np.empty(ids.shape, dtype=np.float32)
    _weigh(ids.numpy(), squared, limits.astype(np.int32), np.array(alphas, dtype=np.float32), weights)
    return torch.from_numpy(weights)


def boundary_weights_reference(
    ids: Tensor,
    num_segments: int,
    alphas: Sequence[float] = (8, 4, 2, 1),
    thresholds: Thresholds = "released",
) -> Tensor:
    """Plain torch reference of :func:`boundary_weights`; the results must be equal."""
    _check(ids, alphas, thresholds)
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) > num_segments):
        _refuse_ids(ids, num_segments)
    squared = squared_distances_reference(ids)
    index = ids.long()
    largest = torch.zeros(num_segments + 1, dtype=torch.int64)
    largest.scatter_reduce_(0, index.flatten(), squared.flatten(), "amax")
    limits = torch.from_numpy(squared_thresholds(largest.numpy(), len(alphas), thresholds))
    region = torch.zeros_like(index)
    for i in range(limits.shape[1]):
        region += squared >= limits[:, i][index]
    return torch.tensor(alphas, dtype=torch.float32)[region] * (ids > 0)


def squared_distances_reference(ids: Tensor) -> Tensor:
    """Return each pixel's squared distance to the nearest pixel of another id, int64 [H, W].

    If there is no other id, the distance is ``NO_BOUNDARY``.
    """
    height, width = ids.shape
    far = height + width
    up = torch.full(ids.shape, far, dtype=torch.int64)
    for y in range(1, height):
        up[y] = torch.where(ids[y] == ids[y - 1], up[y - 1] + 1, 1)
    down = torch.full(ids.shape, far, dtype=torch.int64)
    for y in range(height - 2, -1, -1):
        down[y] = torch.where(ids[y] == ids[y + 1], down[y + 1] + 1, 1)
    vertical = torch.minimum(up, down)
    vertical[vertical >= far] = far
    column = vertical**2
    squared = column.clone()
    for step in range(1, width):
        if step * step >= int(squared.max()):
            break
        for near, other in ((slice(step, None), slice(None, -step)), (slice(None, -step), slice(step, None))):
            same = ids[:, near] == ids[:, other]
            reached = torch.where(same, column[:, other], 0) + step * step
            squared[:, near] = torch.minimum(squared[:, near], reached)
    squared[squared >= far * far] = NO_BOUNDARY
    return squared


def squared_thresholds(largest: NDArray[np.int64], num_regions: int, thresholds: Thresholds) -> NDArray[np.int64]:
    """Return the smallest squared distances that reach each threshold, int64 [S, num_regions - 1].

    Squared distances are integers, so regions can be determined without a square root, exactly as by comparing float64
    distances.

    Args:
        largest: int64 [S], largest squared distance of each segment.
        num_regions: number of alphas.
        thresholds: how the regions are bounded, see :func:`boundary_weights`.
    """
    depth = np.sqrt(largest.astype(np.float64))[:, None]
    i = np.arange(1, num_regions)
    if thresholds == "released":
        bounds = i * (depth / max(num_regions - 1, 1))
        bounds[:, -1:] = depth
    else:
        bounds = depth * i / num_regions
    limits = np.ceil(bounds * bounds).astype(np.int64)
    # Squaring has a rounding error: step to the first integer whose root reaches the bound.
    limits -= (limits > 0) & (np.sqrt((limits - 1).clip(0).astype(np.float64)) >= bounds)
    limits += np.sqrt(limits.astype(np.float64)) < bounds
    limits[largest >= NO_BOUNDARY] = 0
    return limits


def _check(ids: Tensor, alphas: Sequence[float], thresholds: str) -> None:
    if ids.ndim != 2 or ids.dtype != torch.int32:
        raise InvalidArgumentError(f"expected ids as int32 [H, W], got {ids.dtype} {list(ids.shape)}")
    if max(ids.shape) > _LONGEST_SIDE:
        raise InvalidArgumentError(f"expected sides of at most {_LONGEST_SIDE} pixels, got {list(ids.shape)}")
    if not alphas:
        raise InvalidArgumentError("expected at least one alpha, got none")
    if thresholds not in ("released", "equal"):
        raise InvalidArgumentError(f"expected thresholds 'released' or 'equal', got {thresholds!r}")


def _refuse_ids(ids: Tensor, num_segments: int) -> NoReturn:
    raise InvalidArgumentError(f"expected ids in 0..{num_segments}, got {int(ids.min())}..{int(ids.max())}")


@jit
def _measure_columns(ids: Ints, num_segments: int, distance: Ints) -> bool:
    """Write each pixel's distance to another id in its column; return whether all ids are in range.

    Without another id in the column, the distance is at least the sum of height and width.
    """
    height, width = ids.shape
    described = True
    for x in range(width):
        distance[0, x] = height + width
        described &= 0 <= ids[0, x] <= num_segments
    for y in range(1, height):
        for x in range(width):
            described &= 0 <= ids[y, x] <= num_segments
            distance[y, x] = distance[y - 1, x] + 1 if ids[y, x] == ids[y - 1, x] else 1
    for y in range(height - 2, -1, -1):
        for x in range(width):
            below = distance[y + 1, x] + 1 if ids[y, x] == ids[y + 1, x] else 1
            distance[y, x] = min(distance[y, x], below)
    return described


@jit
def _measure_rows(ids: Ints, distance: Ints, largest: Ints) -> None:
    """Replace distances within columns by squared distances; store the largest of each id.

    A row is processed in runs of equal ids. A pixel's squared distance is the minimum over parabolas with vertices at
    the run's columns, at the height of the squared distance within the column, and at the two pixels that end the run,
    at height 0 (Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions"). As x grows, the lowest
    parabola stays the same or moves right. It is therefore searched only at every 64th pixel, and the pixels between
    two of those compare the few parabolas between the two results, in plain loops that compile to vector instructions.
    """
    height, width = ids.shape
    rise = np.empty(width + 2, dtype=np.int32)
    lowest = np.empty(64, dtype=np.int32)
    for y in range(height):
        line = distance[y]
        end = 0
        while end < width:
            value = ids[y, end]
            first = end
            while end < width and ids[y, end] == value:
                end += 1
            if value == 0:
                continue
            # Indices within the run start at 1; 0 and num + 1 are the pixels that end it.
            num = end - first
            rise[0] = 0 if first > 0 else _FAR
            rise[num + 1] = 0 if end < width else _FAR
            for i in range(num):
                rise[i + 1] = line[first + i] * line[first + i] if line[first + i] < height + width else _FAR
            deepest = np.int32(0)
            foot: int | np.int64 = np.int64(0)  # a literal 0 has another type, for which numba would compile again
            for start in range(1, num + 1, 64):
                stop = min(start + 64, num + 1)
                last = num + 1 if stop == num + 1 else _lowest_parabola(rise[: num + 2], foot, stop - 1)
                lowest[:] = 2**31 - 1
                for v in range(foot, last + 1):
                    offset, height_v = np.int32(start - v), rise[v]
                    for i in range(len(lowest)):  # all 64, even in shorter blocks: a vector loop without a remainder
                        step = np.int32(offset + np.int32(i))
                        lowest[i] = min(lowest[i], np.int32(np.int32(step * step) + height_v))
                part = line[first + start - 1 : first + stop - 1]
                for i in range(len(part)):
                    part[i] = lowest[i] if lowest[i] < _FAR else NO_BOUNDARY
                    deepest = max(deepest, part[i])
                foot = last
            largest[value] = max(largest[value], deepest)


@jit
def _lowest_parabola(rise: Ints, foot: int | np.int64, x: int) -> int | np.int64:
    """Return the index of a lowest parabola at ``x``, given that none before ``foot`` is lower."""
    # The parabolas at x and at the ends bound the minimum, which limits how far away a lower one can be.
    known = min(rise[x], x * x + rise[0], (len(rise) - 1 - x) ** 2 + rise[-1])
    reach = int(np.sqrt(known)) + 1
    foot = max(foot, x - reach)
    part = rise[foot : x + reach + 1]
    offset = np.int32(foot - x)
    best = np.int32(2**31 - 1)
    for i in range(len(part)):
        step = np.int32(offset + np.int32(i))
        best = min(best, np.int32(np.int32(step * step) + part[i]))
    for i in range(len(part)):
        step = np.int32(offset + np.int32(i))
        if np.int32(np.int32(step * step) + part[i]) == best:
            return foot + i
    return foot


@jit
def _weigh(ids: Ints, squared: Ints, limits: Ints, alphas: Floats, weights: Floats) -> None:
    """Write each pixel's alpha, whose index is the number of limits that the pixel reaches."""
    height, width = ids.shape
    for y in range(height):
        end = 0
        while end < width:
            value = ids[y, end]
            first = end
            while end < width and ids[y, end] == value:
                end += 1
            distances, run = squared[y, first:end], weights[y, first:end]
            run[:] = alphas[0] if value > 0 else np.float32(0)
            if value > 0:
                for i in range(limits.shape[1]):
                    limit, alpha = limits[value, i], alphas[i + 1]
                    for x in range(len(run)):
                        run[x] = alpha if distances[x] >= limit else run[x]
