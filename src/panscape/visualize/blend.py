"""Blending of an image with one color per segment."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit
from panscape.visualize.oklab import Colors

Pixels: TypeAlias = NDArray[np.uint8]  # [H, W, 3]


def blend(image: NDArray[np.uint8], ids: NDArray[np.int32], colors: Colors, opacity: NDArray[np.float64]) -> Pixels:
    """Blend an image with the color of the segment at each pixel.

    Args:
        image: uint8 [3, H, W].
        ids: int32 [H, W], 0..S.
        colors: uint8 [S + 1, 3], that of void first.
        opacity: float [S + 1], 0 (only the image) to 1 (only the color).

    Returns:
        uint8 [H, W, 3], rounded.
    """
    # 8-bit fixed point is exact at opacity 0 and 1.
    share = np.rint(256 * opacity).astype(np.uint16)
    pixels = np.empty((*ids.shape, 3), np.uint8)
    _blend(np.ascontiguousarray(image), np.ascontiguousarray(ids), 256 - share, colors * share[:, None] + 128, pixels)
    return pixels


@jit
def _blend(
    image: NDArray[np.uint8],
    ids: NDArray[np.int32],
    factor: NDArray[np.uint16],
    addend: NDArray[np.uint16],
    pixels: Pixels,
) -> None:
    """Write ``(image * factor + addend) / 256``; runs of one id along a row have constant factors, which is fast."""
    height, width = ids.shape
    for y in range(height):
        end = 0
        while end < width:
            first, value = end, ids[y, end]
            while end < width and ids[y, end] == value:
                end += 1
            scale = np.uint32(factor[value])
            red, green, blue = np.uint32(addend[value, 0]), np.uint32(addend[value, 1]), np.uint32(addend[value, 2])
            for x in range(first, end):
                pixels[y, x, 0] = (image[0, y, x] * scale + red) >> 8
                pixels[y, x, 1] = (image[1, y, x] * scale + green) >> 8
                pixels[y, x, 2] = (image[2, y, x] * scale + blue) >> 8
