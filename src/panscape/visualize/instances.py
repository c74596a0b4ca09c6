"""Colors of segments: stuff has the color of its category, things have shades of it, unlike those of neighbours."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.ops.jit import jit
from panscape.visualize.oklab import Colors, from_oklab, to_oklab
from panscape.visualize.palette import Palette, category_colors

# Change of lightness, factor of chroma, turn of the hue in degrees.
_SHADES = np.array(
    [
        (0, 1, 0),
        (0.11, 0.85, 8),
        (-0.11, 1.05, -8),
        (0.04, 0.7, -15),
        (-0.05, 1.1, 15),
        (-0.16, 0.75, 4),
        (0.13, 0.6, 2),
        (-0.08, 0.6, -12),
    ]
)
_LIGHTNESS = (0.36, 0.92)  # of the shades
_SAMPLES = 512  # along each axis of the map, for neighbours
_NEAR = 3  # samples between neighbours


def colors_of_segments(result: MapArrays, labels: LabelSpace, palette: Palette = "distinct") -> Colors:
    """Return the color of every segment, uint8 [S, 3].

    They are those of :func:`panscape.visualize.segment_colors`, with its errors.
    """
    category = result.category
    if len(category) and category.max() >= len(labels):
        raise InvalidArgumentError(
            f"expected categories of {labels.name!r}, 0..{len(labels) - 1}, got {category.max()}; "
            "give the label space of the map"
        )
    shades = _shades(labels, palette)
    is_thing = np.array([c.is_thing for c in labels])
    rows = np.flatnonzero(is_thing[category])
    chosen = np.zeros(len(category), np.int64)
    if len(rows) > 1:
        chosen[rows] = _choose(rows, category, _neighbours(result, category), to_oklab(shades))
    colors: Colors = shades[category, chosen]
    return colors


@lru_cache(maxsize=32)
def _shades(labels: LabelSpace, palette: Palette) -> Colors:
    """Return the shades of the category colors, uint8 [C, 8, 3]; the first one is the color itself."""
    colors = category_colors(labels, palette)
    lab = to_oklab(colors)[:, None]
    change, factor, turn = (_SHADES[:, i] for i in range(3))
    spread = [_LIGHTNESS[0] - change.min(), _LIGHTNESS[1] - change.max()]
    lightness = lab[..., 0].clip(*spread) + change
    hue = np.arctan2(lab[..., 2], lab[..., 1]) + np.radians(turn)
    chroma = np.hypot(lab[..., 1], lab[..., 2]) * factor
    shades = from_oklab(np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1))
    shades[:, 0] = colors
    return shades


def _choose(
    rows: NDArray[np.int64],
    category: NDArray[np.int64],
    neighbours: dict[int, list[int]],
    shades: NDArray[np.float64],
) -> list[int]:
    """Return the shade of each row of ``rows``, in this order; ``shades`` are OKLab colors [C, 8, 3]."""
    chosen: dict[int, int] = {}
    used: defaultdict[int, int] = defaultdict(int)  # things of each category so far
    for row in rows.tolist():
        own = shades[category[row]]
        distance = np.full(len(own), np.inf)
        for other in neighbours.get(row, ()):
            if other in chosen:
                distance = np.minimum(distance, np.linalg.norm(own - own[chosen[other]], axis=1))
        turn = used[int(category[row])] % len(own)
        if distance[turn] < 0.1:  # OKLab; 0.02 is the difference that people just notice
            turn = int(distance.argmax())
        chosen[row] = turn
        used[int(category[row])] += 1
    return [chosen[row] for row in rows.tolist()]


def _neighbours(result: MapArrays, category: NDArray[np.int64]) -> dict[int, list[int]]:
    """Return the rows of the segments of its own category close to each segment."""
    rows, columns = (max(1, length // _SAMPLES) for length in result.size)
    ids = result.ids[rows // 2 :: rows, columns // 2 :: columns]
    ids = np.ascontiguousarray(ids)  # one pass over the strided map
    group = np.concatenate([[-1], category])
    found: defaultdict[int, list[int]] = defaultdict(list)
    for a, b in np.unique(_near_pairs(ids, group, _NEAR), axis=0).tolist():
        found[a - 1].append(b - 1)
        found[b - 1].append(a - 1)
    return found


@jit
def _near_pairs(ids: NDArray[np.int32], group: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Return pairs [P, 2] of ids of one group that are at most ``reach`` pixels apart, along axes or diagonals.

    The smaller one is first; pairs may repeat. ``group`` is that of each id, [S + 1].
    """
    height, width = ids.shape
    pairs = np.empty((256, 2), np.int64)
    count = 0
    for y in range(height):
        for down in range(min(reach + 1, height - y)):
            for across in range(1, min(reach + 1, width)) if down == 0 else range(-down, down + 1, down):
                for x in range(max(0, -across), min(width, width - across)):
                    one, other = ids[y, x], ids[y + down, x + across]
                    if one == other or group[one] != group[other]:
                        continue
                    low, high = min(one, other), max(one, other)
                    if count and pairs[count - 1, 0] == low and pairs[count - 1, 1] == high:
                        continue  # most borders are long
                    if count == len(pairs):
                        grown = np.empty((2 * count, 2), np.int64)
                        grown[:count] = pairs
                        pairs = grown
                    pairs[count] = low, high
                    count += 1
    return pairs[:count]
