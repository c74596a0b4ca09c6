"""Colors of segments, heatmaps and directions."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace

if TYPE_CHECKING:
    from panscape.panoptic import PanopticMap

_GOLDEN = (math.sqrt(5) - 1) / 2


def segment_colors(result: PanopticMap, labels: LabelSpace) -> NDArray[np.uint8]:
    """Return the color of every segment, uint8 [S, 3].

    Stuff, and the first thing of each category, have the category's color. Further things have shades of it that depend
    only on their rank among the rows of their category: lightness moves by golden-ratio steps through a third of the
    scale and hue by up to a twentieth of the circle, both in the OKLCh space (Ottosson, "A perceptual color space for
    image processing", 2020), so that consecutive shades differ clearly.

    Raises:
        InvalidArgumentError: a segment's category is not in ``labels``.
    """
    category = result.category.cpu().numpy()
    if len(category) and category.max() >= len(labels):
        raise InvalidArgumentError(
            f"expected categories of {labels.name!r}, 0..{len(labels) - 1}, got {category.max()}; "
            "give the label space of the map"
        )
    base = np.array([c.color for c in labels], np.uint8)
    is_thing = np.array([c.is_thing for c in labels])
    rank = np.zeros(len(category), np.int64)
    order = np.argsort(category, kind="stable")
    starts = np.flatnonzero(np.diff(category[order], prepend=-1))
    rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    rank[~is_thing[category]] = 0
    colors: NDArray[np.uint8] = base[category]
    shaded = rank > 0
    colors[shaded] = _shades(base[category[shaded]], rank[shaded])
    return colors


def _shades(colors: NDArray[np.uint8], rank: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the shade of the thing with ``rank`` (from 1) in its category, uint8 [N, 3]."""
    lab = _srgb_to_oklab(colors)
    lightness, chroma, hue = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2]), np.arctan2(lab[:, 2], lab[:, 1])
    low = (lightness - 0.16).clip(0.30, 0.56)
    # The steps start at the category's own color, so that the second thing differs clearly from the first.
    start = ((lightness - low) / 0.34).clip(0, 1)
    new_lightness = low + 0.34 * ((start + rank * _GOLDEN) % 1)
    new_hue = hue + math.radians(18) * (2 * ((0.5 + rank * (math.sqrt(2) - 1)) % 1) - 1)
    new_chroma = chroma * (0.85 + 0.3 * ((rank * _GOLDEN * 2) % 1))
    shade = np.stack([new_lightness, new_chroma * np.cos(new_hue), new_chroma * np.sin(new_hue)], axis=1)
    return _oklab_to_srgb(shade)


_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _srgb_to_oklab(colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    value = colors / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    lab: NDArray[np.float64] = np.cbrt(linear @ _RGB_TO_LMS.T) @ _LMS_TO_LAB.T
    return lab


def _oklab_to_srgb(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    linear = ((lab @ np.linalg.inv(_LMS_TO_LAB).T) ** 3 @ np.linalg.inv(_RGB_TO_LMS).T).clip(0, 1)
    value = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    srgb: NDArray[np.uint8] = np.rint(value * 255).astype(np.uint8)
    return srgb


@cache
def heat_colors() -> NDArray[np.uint8]:
    """Return 256 colors of increasing lightness, interpolated in OKLab."""
    anchors = np.array([(6, 5, 16), (72, 18, 110), (170, 40, 95), (240, 110, 40), (250, 205, 70), (255, 255, 240)])
    lab = _srgb_to_oklab(anchors.astype(np.uint8))
    at, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(anchors))
    return _oklab_to_srgb(np.stack([np.interp(at, stops, lab[:, i]) for i in range(3)], axis=1))


@cache
def flow_color_wheel() -> NDArray[np.float64]:
    """Return the 55 colors of the wheel, red, green, blue in 0..1; each part ramps one channel up or down."""
    parts = (  # number of colors, constant full channel, changing channel, whether it increases
        (15, 0, 1, True),  # red to yellow
        (6, 1, 0, False),  # yellow to green
        (4, 1, 2, True),  # green to cyan
        (11, 2, 1, False),  # cyan to blue
        (13, 2, 0, True),  # blue to magenta
        (6, 0, 2, False),  # magenta to red
    )
    wheel = np.zeros((sum(p[0] for p in parts), 3))
    row = 0
    for count, full, changing, up in parts:
        ramp = np.floor(255 * np.arange(count) / count) / 255
        wheel[row : row + count, full] = 1
        wheel[row : row + count, changing] = ramp if up else 1 - ramp
        row += count
    return wheel
