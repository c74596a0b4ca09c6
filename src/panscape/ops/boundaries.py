"""Segment boundaries: the pixels close to the contour of their segment, as Boundary IoU needs them.

Boundary of Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, as in the
released code: a mask minus its erosion by *d* passes of a 3x3 square, where the outside of the image counts as outside
the mask. A pixel survives the erosion if the square of 2d+1 pixels around it lies in the image and in the mask. One
pass over a map of ids therefore gives the boundaries of all segments at once, in a time that does not depend on *d*.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from panscape.errors import InvalidArgumentError
from panscape.ops.jit import jit


def segment_boundaries(ids: Tensor, distance: int) -> Tensor:
    """Mark the pixels within a distance of another id or of the outside of the image.

    The distance is the larger of the row and column distances (Chebyshev): a pixel and its eight neighbours are 1
    apart, and the pixels at the edge of the image are 1 from its outside.

    Args:
        ids: int32 [H, W], 0 or more. Void (0) is an id like the others.
        distance: in pixels, at least 1.

    Returns:
        bool [H, W], on the device of ``ids``.

    Raises:
        InvalidArgumentError: the ids are not int32 [H, W], or the distance is below 1.
    """
    if ids.device.type != "cpu":
        return segment_boundaries_reference(ids, distance)
    _check(ids, distance)
    is_boundary = np.ones(ids.shape, dtype=np.bool_)
    _clear_interior(ids.contiguous().numpy(), distance, is_boundary)
    return torch.from_numpy(is_boundary)


def segment_boundaries_reference(ids: Tensor, distance: int) -> Tensor:
    """Plain torch reference of :func:`segment_boundaries`, for any device; the results must be equal."""
    _check(ids, distance)
    if not ids.numel():
        return torch.ones(ids.shape, dtype=torch.bool, device=ids.device)
    # float64 holds every id; the outside of the image is one more id, -1.
    padded = functional.pad(ids.double()[None, None], (distance,) * 4, value=-1)
    side = 2 * distance + 1
    highest, lowest = padded, -padded
    for window in ((side, 1), (1, side)):
        highest = functional.max_pool2d(highest, window, stride=1)
        lowest = functional.max_pool2d(lowest, window, stride=1)
    return (highest != -lowest)[0, 0]


def _check(ids: Tensor, distance: int) -> None:
    if ids.dtype != torch.int32 or ids.ndim != 2:
        raise InvalidArgumentError(f"expected ids as int32 [H, W], got {ids.dtype} {list(ids.shape)}")
    if distance < 1:
        raise InvalidArgumentError(f"expected a distance of at least 1 pixel, got {distance}")


@jit
def _clear_interior(ids: NDArray[np.int32], distance: int, is_boundary: NDArray[np.bool_]) -> None:
    """Clear the pixels that are farther than ``distance`` from other ids and from the outside.

    ``rows`` counts, for each column, the consecutive rows up to the current one in which the 2d+1 pixels around the
    column have a single id. Where the count reaches 2d+1, the pixel d rows above is interior.
    """
    height, width = ids.shape
    rows = np.zeros(width, dtype=np.int64)
    for y in range(height):
        end = 0
        while end < width:
            value = ids[y, end]
            first = end
            while end < width and ids[y, end] == value:
                end += 1
            inner, outer = min(first + distance, end), max(end - distance, first)
            if inner >= outer:
                rows[first:end] = 0
                continue
            rows[first:inner] = 0
            rows[outer:end] = 0
            for x in range(inner, outer):
                # There is no row above the first one; rows[x] is 0 then.
                rows[x] = rows[x] + 1 if rows[x] > 0 and ids[y - 1, x] == value else 1
            if y >= 2 * distance:
                for x in range(inner, outer):
                    if rows[x] > 2 * distance:
                        is_boundary[y - distance, x] = False
