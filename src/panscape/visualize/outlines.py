"""Lines between segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panscape.labels import LabelSpace

if TYPE_CHECKING:
    from panscape.panoptic import PanopticMap


def draw_outlines(pixels: NDArray[np.uint8], result: PanopticMap, labels: LabelSpace) -> None:
    """Draw outlines into pixels, uint8 [H, W, 3], in place.

    Things get a light line inside and a dark line around; stuff segments are separated by a faint dark line. Of two
    touching things, the later row is on top.
    """
    category = result.category.cpu().numpy()
    is_thing = np.array([c.is_thing for c in labels])[category]
    rank = np.zeros(len(category) + 1, np.int32)  # void below stuff below things
    rank[1:] = np.arange(1, len(category) + 1) + np.where(is_thing, len(category), 0)
    first_thing = len(category) + 1
    field = rank[result.ids.cpu().numpy()]
    width = max(1, round(max(field.shape) / 1000))
    lowest, highest = _extreme(field, width, np.minimum), _extreme(field, width, np.maximum)
    light = (field >= first_thing) & (lowest < field)
    dark = (highest > field) & (highest >= first_thing)
    faint = (highest != field) & ~light & ~dark
    # Where a thing is both above and below others, the dark line has priority.
    light &= ~dark
    pixels[light] = 255 - ((255 - pixels[light].astype(np.uint16)) * 45 >> 8).astype(np.uint8)
    pixels[dark] = (pixels[dark].astype(np.uint16) * 90 >> 8).astype(np.uint8)
    pixels[faint] = (pixels[faint].astype(np.uint16) * 150 >> 8).astype(np.uint8)


def _extreme(field: NDArray[np.int32], reach: int, pick: np.ufunc) -> NDArray[np.int32]:
    """Return the lowest or highest value within ``reach`` pixels along rows and columns (a plus, not a square)."""
    result = field.copy()
    for step in range(1, reach + 1):
        pick(result[step:], field[:-step], out=result[step:])
        pick(result[:-step], field[step:], out=result[:-step])
        pick(result[:, step:], field[:, :-step], out=result[:, step:])
        pick(result[:, :-step], field[:, step:], out=result[:, :-step])
    return result
