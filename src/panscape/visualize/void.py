"""Void pixels of an overlay: a dim grey image under diagonal lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def hatch(pixels: NDArray[np.uint8], void: NDArray[np.bool_], text_size: int, opacity: float) -> None:
    """Make void pixels grey, darker, and draw light diagonal lines over them, in place.

    Args:
        pixels: uint8 [H, W, 3], contiguous.
        void: bool [H, W].
        text_size: of the image, in pixels; the lines have two thirds of it from each other.
        opacity: 0 (only the image) to 1.
    """
    at = np.flatnonzero(void)
    flat = pixels.reshape(-1, 3)
    inside = flat[at].astype(np.float32)
    period = max(6, round(0.8 * text_size))
    is_line = (at // pixels.shape[1] + at % pixels.shape[1]) % period < max(1, period // 5)
    ground = np.where(is_line, 225, 0.5 * (inside @ _GREY) + 30)
    flat[at] = np.rint(inside + (ground[:, None] - inside) * opacity).astype(np.uint8)
