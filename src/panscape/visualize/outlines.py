"""Lines between segments."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.ops.jit import jit

_MAX_WIDTH = 6  # pixels; the time is proportional to it


def draw_outlines(
    pixels: NDArray[np.uint8], result: MapArrays, labels: LabelSpace, strength: NDArray[np.float64]
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
    category = result.category
    is_thing = np.array([c.is_thing for c in labels])[category]
    rank = np.zeros(len(category) + 1, np.int32)  # void below stuff below things
    rank[1:] = np.arange(1, len(category) + 1) + np.where(is_thing, len(category), 0)
    first_thing = len(category) + 1
    of_rank = np.ones(2 * len(category) + 1)
    of_rank[rank[1:]] = strength
    dark, light = (np.rint(opacity * of_rank * 256).astype(np.uint16) for opacity in (0.65, 0.82))
    dark[:first_thing] = round(0.4 * 256)  # of the line between stuff
    ids = np.ascontiguousarray(result.ids)
    _draw_lines(ids, outline_width(*ids.shape), rank, first_thing, dark, light, pixels)


def outline_width(height: int, width: int) -> int:
    """Return the width of one line in pixels, for an image of this size; at most a hundredth of its shorter side."""
    side = min(math.sqrt(height * width) / 800, min(height, width) / 100)
    return min(max(1, round(side)), _MAX_WIDTH)


@jit
def _draw_lines(
    ids: NDArray[np.int32],
    reach: int,
    rank: NDArray[np.int32],
    first_thing: int,
    dark: NDArray[np.uint16],
    light: NDArray[np.uint16],
    pixels: NDArray[np.uint8],
) -> None:
    """Draw the lines at all pixels that have another id within ``reach`` along rows and columns (a plus, not a square).

    Args:
        ids: int32 [H, W], 0..S.
        reach: width of a line in pixels.
        rank: of each id; of two segments, the higher one is on top.
        first_thing: lowest rank of things.
        dark: opacity of the dark line around the segment of a rank, 0..256.
        light: opacity of the light line inside the segment of a rank, 0..256.
        pixels: uint8 [H, W, 3], changed in place.
    """
    height, width = ids.shape
    is_near = np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(1, width):
            if ids[y, x] != ids[y, x - 1]:
                is_near[y, max(x - reach, 0) : x + reach] = True
    for y in range(1, height):
        for x in range(width):
            if ids[y, x] != ids[y - 1, x]:
                is_near[max(y - reach, 0) : y + reach, x] = True
    for y in range(height):
        for x in range(width):
            if not is_near[y, x]:
                continue
            here = rank[ids[y, x]]
            low, high = here, here
            for other_y in range(max(y - reach, 0), min(y + reach + 1, height)):
                low, high = min(low, rank[ids[other_y, x]]), max(high, rank[ids[other_y, x]])
            for other_x in range(max(x - reach, 0), min(x + reach + 1, width)):
                low, high = min(low, rank[ids[y, other_x]]), max(high, rank[ids[y, other_x]])
            # Where a thing is both above and below others, the dark line has priority.
            share, ink = 0, 0
            if here >= first_thing and low < here and not high > here:
                share, ink = light[here], 255
            elif high > here:
                share = dark[high]
            for channel in range(3):
                pixels[y, x, channel] = (pixels[y, x, channel] * (256 - share) + ink * share) >> 8
