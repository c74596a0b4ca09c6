"""Compiled bilinear resizing of images with anti-aliasing, from the pixels of a file to the input of a network.

The definition is that of torch's ``interpolate(mode="bilinear", antialias=True)`` and of Pillow's ``BILINEAR``: every
output is a mean of inputs, weighted by their distance to its position. The weight decreases linearly to 0 at the
distance of one input, or of one output if the image becomes smaller.

Torch computes positions and weights in float32, and its results depend on the processor. Here weights are computed in
float64; they are applied in float32 with a fixed order of operations, first along the columns of the image.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit

Floats = NDArray[np.float32]
_LARGEST_PIXEL = np.float32(255)


class Taps(NamedTuple):
    """The inputs of each output along one axis, and their weights.

    Attributes:
        first: int32 [N], the first input of each output.
        num: int32 [N], the number of its inputs; they are consecutive.
        weight: float32 [N, T], their weights, whose sum is 1 up to rounding; 0 after the last one.
    """

    first: NDArray[np.int32]
    num: NDArray[np.int32]
    weight: Floats


@lru_cache(maxsize=16)
def antialiased_taps(num_inputs: int, num_outputs: int) -> Taps:
    """Return the inputs and weights of the outputs along one axis; pixels are areas.

    Args:
        num_inputs: inputs along the axis, at least 1.
        num_outputs: outputs along the axis, at least 1.
    """
    scale = num_inputs / num_outputs
    reach = max(scale, 1.0)
    position = (np.arange(num_outputs) + 0.5) * scale
    first = np.maximum(np.floor(position - reach + 0.5).astype(np.int32), 0)
    taken = first[:, None] + np.arange(ceil(2 * reach) + 1)
    weight = np.maximum(1 - np.abs(taken + 0.5 - position[:, None]) / reach, 0) * (taken < num_inputs)
    weight /= weight.sum(axis=1, keepdims=True)
    num = weight.shape[1] - np.argmax(weight[:, ::-1] > 0, axis=1)
    taps = Taps(first, num.astype(np.int32), weight.astype(np.float32))
    for part in taps:
        part.setflags(write=False)  # the cache returns the same arrays to every caller
    return taps


def resized_pixels(image: NDArray[np.uint8], size: tuple[int, int]) -> Floats:
    """Return an image at another size as the input of a network; at its own size, its values divided by 255.

    Args:
        image: uint8 [C, H, W].
        size: height and width in pixels, at least 1.

    Returns:
        float32 [C, *size] in 0..1.
    """
    channels, *own_size = image.shape
    if tuple(own_size) == tuple(size):
        return np.divide(image, _LARGEST_PIXEL, dtype=np.float32)
    rows, columns = (antialiased_taps(*lengths) for lengths in zip(own_size, size, strict=True))
    out = np.empty((channels, *size), dtype=np.float32)
    _resize(np.ascontiguousarray(image), rows, columns, out)
    return out


@jit
def _resize(image: NDArray[np.uint8], rows: Taps, columns: Taps, out: Floats) -> None:
    """Write the resized image, one output row at a time: the sum of input rows, and then the sums along it."""
    mixed = np.empty(image.shape[2], dtype=np.float32)
    for c in range(len(image)):
        for y in range(out.shape[1]):
            mixed[:] = 0
            for t in range(rows.num[y]):
                weight, row = rows.weight[y, t], image[c, rows.first[y] + t]
                for x in range(len(mixed)):
                    mixed[x] += weight * np.float32(row[x])
            for x in range(out.shape[2]):
                first, total = columns.first[x], np.float32(0)
                for t in range(columns.num[x]):
                    total += columns.weight[x, t] * mixed[first + t]
                out[c, y, x] = min(total / _LARGEST_PIXEL, np.float32(1))
