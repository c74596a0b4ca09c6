"""Lines between segments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panscape.labels import LabelSpace

if TYPE_CHECKING:
    from panscape.panoptic import PanopticMap

_MAX_WIDTH = 6  # pixels; the time is proportional to it


def draw_outlines(
    pixels: NDArray[np.uint8], result: PanopticMap, labels: LabelSpace, strength: NDArray[np.float64]
) -> None:
    """Draw outlines into pixels, uint8 [H, W, 3], in place.

    Things get a light line inside and a dark line around; stuff segments are separated by a faint dark line. Of two
    touching things, the later row is on top.

    Args:
        pixels: colored pixels.
        result: a map of their size.
        labels: label space of the map.
        strength: opacity of the lines of each segment, 0..1, [S].
    """
    category = result.category.cpu().numpy()
    is_thing = np.array([c.is_thing for c in labels])[category]
    rank = np.zeros(len(category) + 1, np.int32)  # void below stuff below things
    rank[1:] = np.arange(1, len(category) + 1) + np.where(is_thing, len(category), 0)
    first_thing = len(category) + 1
    of_rank = np.ones(2 * len(category) + 1)
    of_rank[rank[1:]] = strength
    field = rank[result.ids.cpu().numpy()]
    width = outline_width(*field.shape)
    lowest, highest = _extreme(field, width, np.minimum), _extreme(field, width, np.maximum)
    at = np.flatnonzero(lowest != highest)  # few pixels: all further steps are cheap
    here, low, high = field.ravel()[at], lowest.ravel()[at], highest.ravel()[at]
    # Where a thing is both above and below others, the dark line has priority.
    is_dark = (high > here) & (high >= first_thing)
    is_light = (here >= first_thing) & (low < here) & ~is_dark
    opacity = np.where(high > here, 0.4, 0.0)  # of the line between stuff
    opacity[is_dark] = 0.65 * of_rank[high[is_dark]]
    opacity[is_light] = 0.82 * of_rank[here[is_light]]
    share = np.rint(opacity * 256).astype(np.uint16)[:, None]
    flat = pixels.reshape(-1, 3)
    flat[at] = (flat[at] * (256 - share) + np.where(is_light, 255, 0).astype(np.uint16)[:, None] * share) >> 8


def outline_width(height: int, width: int) -> int:
    """Return the width of one line in pixels, for an image of this size."""
    return min(max(1, round(math.sqrt(height * width) / 800)), _MAX_WIDTH)


def _extreme(field: NDArray[np.int32], reach: int, pick: np.ufunc) -> NDArray[np.int32]:
    """Return the lowest or highest value within ``reach`` pixels along rows and columns (a plus, not a square)."""
    result = field.copy()
    for step in range(1, reach + 1):
        pick(result[step:], field[:-step], out=result[step:])
        pick(result[:-step], field[step:], out=result[:-step])
        pick(result[:, step:], field[:, :-step], out=result[:, step:])
        pick(result[:, :-step], field[:, step:], out=result[:, :-step])
    return result
