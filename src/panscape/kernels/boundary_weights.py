"""Weights that make the offset loss attend to the boundaries of segments.

Boundary-aware offset loss of Panoptic SwiftNet (arXiv 2203.07908, section 3.3). Each segment is cut into regions by
the distance of its pixels from its own boundary, and the weight falls from region to region towards its middle.

The distance of a pixel is the Euclidean distance to the nearest pixel of another segment or of void; pixels on the
boundary have distance 1. What lies outside the picture is no boundary. It is exact here, where the published
implementation uses a chamfer approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError

Thresholds = Literal["released", "equal"]
NO_BOUNDARY = 2**31 - 1  # squared distance where the picture holds one segment only


def boundary_weights(
    ids: Tensor,
    num_segments: int,
    alphas: Sequence[float] = (8, 4, 2, 1),
    thresholds: Thresholds = "released",
) -> Tensor:
    """Return the weight of every pixel.

    With d a pixel's distance, D the largest one in its segment and n the number of alphas, a pixel gets the alpha
    whose position is the number of thresholds that d reaches:

    * "released", the published code: D/(n-1), 2D/(n-1), .. D; the last alpha is for the ridge, where d equals D.
    * "equal", the paper's words: D/n, 2D/n, .. (n-1)D/n.

    A segment that fills the picture has no boundary and gets the last alpha.

    Args:
        ids: int32 [H, W], 0 is void, values up to ``num_segments``.
        num_segments: number of segments.
        alphas: weights from the boundary inwards.
        thresholds: where regions end.

    Returns:
        float32 [H, W], 0 on void.

    Raises:
        InvalidArgumentError: the ids are no int32 map or exceed ``num_segments``, or there is no alpha, or the
            thresholds are unknown.
    """
    return boundary_weights_reference(ids, num_segments, alphas, thresholds)


def boundary_weights_reference(
    ids: Tensor,
    num_segments: int,
    alphas: Sequence[float] = (8, 4, 2, 1),
    thresholds: Thresholds = "released",
) -> Tensor:
    """Return what :func:`boundary_weights` does, in plain torch; it must be equal to this."""
    _check(ids, num_segments, alphas, thresholds)
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

    Where there is no other id it is ``NO_BOUNDARY``.
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

    Squared distances are integers, so regions can be told apart without a square root and yet exactly as comparing
    float64 distances does.

    Args:
        largest: int64 [S], largest squared distance of each segment.
        num_regions: number of alphas.
        thresholds: where regions end.
    """
    depth = np.sqrt(largest.astype(np.float64))[:, None]
    i = np.arange(1, num_regions)
    if thresholds == "released":
        bounds = i * (depth / max(num_regions - 1, 1))
        bounds[:, -1:] = depth
    else:
        bounds = depth * i / num_regions
    limits = np.ceil(bounds * bounds).astype(np.int64)
    # Squaring rounded: step to the integer whose root is the first to reach the bound.
    limits -= (limits > 0) & (np.sqrt((limits - 1).clip(0).astype(np.float64)) >= bounds)
    limits += np.sqrt(limits.astype(np.float64)) < bounds
    limits[largest >= NO_BOUNDARY] = 0
    return limits


def _check(ids: Tensor, num_segments: int, alphas: Sequence[float], thresholds: str) -> None:
    if ids.ndim != 2 or ids.dtype != torch.int32:
        raise InvalidArgumentError(f"expected ids as int32 [H, W], got {ids.dtype} {list(ids.shape)}")
    if ids.numel():
        low, high = (int(v) for v in torch.stack(ids.aminmax()))
        if low < 0 or high > num_segments:
            raise InvalidArgumentError(f"expected ids in 0..{num_segments}, got {low}..{high}")
    if not alphas:
        raise InvalidArgumentError("expected at least one alpha, got none")
    if thresholds not in ("released", "equal"):
        raise InvalidArgumentError(f"expected thresholds 'released' or 'equal', got {thresholds!r}")
