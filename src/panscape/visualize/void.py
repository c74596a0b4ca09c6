"""Void pixels of an overlay: a dim grey image under diagonal lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def hatch(pixels: NDArray[np.uint8], void: NDArray[np.bool_], text_size: int, opacity: float) -> NDArray[np.uint8]:
    """Return pixels in which void is grey, darker, and under light diagonal lines.

    Args:
        pixels: uint8 [H, W, 3].
        void: bool [H, W].
        text_size: of the image, in pixels; the lines have two thirds of it from each other.
        opacity: 0 (only the image) to 1.
    """
    result = pixels.copy()
    y, x = np.nonzero(void)
    inside = pixels[y, x].astype(np.float32)
    period = max(6, round(0.8 * text_size))
    is_line = (x + y) % period < max(1, period // 5)
    ground = np.where(is_line, 225, 0.5 * (inside @ _GREY) + 30)
    result[y, x] = np.rint(inside + (ground[:, None] - inside) * opacity).astype(np.uint8)
    return result
