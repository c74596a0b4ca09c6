"""Text in images: its size, font and color."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import ImageFont

from panscape.visualize.oklab import linear_rgb

DARK, LIGHT = (0, 0, 0), (255, 255, 255)


def text_size(height: int, width: int) -> int:
    """Return a legible text size in pixels for an image of this size: a fiftieth of the side of the square of its area.

    As in detectron2, it grows with the root of the area (there it is a ninetieth, in points, at least 10); from 11 to
    72 pixels, and above 11 at most a tenth of the shorter side.
    """
    side = min(math.sqrt(height * width) / 50, min(height, width) / 10)
    return min(max(11, round(side)), 72)


@cache
def load_font(size: int) -> Any:
    """Return the font of names and titles."""
    return ImageFont.load_default(size)  # Pillow's bundled outline font: the same result on every machine


def ink_on(color: Sequence[int]) -> tuple[int, int, int]:
    """Return the text color, black or white, with the higher contrast to a color: at least 4.5:1, as WCAG demands."""
    luminance = float(linear_rgb(np.array(color, np.uint8)) @ [0.2126, 0.7152, 0.0722])
    return DARK if luminance > 0.179 else LIGHT
