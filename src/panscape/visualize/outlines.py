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
    light = (field >= first_thing) & (lowest < field)
    dark = (highest > field) & (highest >= first_thing)
    faint = (highest != field) & ~light & ~dark
    # Where a thing is both above and below others, the dark line has priority.
    light &= ~dark
    for line, color, opacity in (
        (light, 255, 0.82 * of_rank[field[light]]),
        (dark, 0, 0.65 * of_rank[highest[dark]]),
        (faint, 0, 0.4),
    ):
        share = np.rint(np.reshape(opacity, (-1, 1)) * 256).astype(np.uint16)
        pixels[line] = ((pixels[line] * (256 - share) + color * share) >> 8).astype(np.uint8)


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
