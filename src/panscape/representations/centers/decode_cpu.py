"""Compiled centre decoding in one pass over the image, which never upsamples the outputs as a whole.

What makes it fast, and why it stays exact:

* *Cells.* The output pixels between four neighbouring inputs form a cell. If one category wins at all four by a margin
  larger than the rounding error of interpolation, it wins in the whole cell. In other cells a category is interpolated
  unless its highest corner is below the lowest corner of another one by such a margin.
* *Buckets.* The map is divided into squares of 32 pixels. When a pixel first points into a square, the centres that can
  be nearest to any point in it are listed.
* *Roots.* The square root is monotone: roots are compared only where a squared distance is below the lowest so far.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from panscape.ops.argmax_cpu import Flags, Floats, Ints, Longs, categorize_cells, find_winners, new_workspace
from panscape.ops.jit import jit
from panscape.ops.source_weights import Axis

_BUCKET = 32


class Buckets(NamedTuple):
    """For each square of the map, the centres that can be nearest to a point in it.

    Attributes:
        center_y: float32 [K].
        center_x: float32 [K].
        listed: int32 [Y, X], number of listed centres; -1 if the list has not been filled yet.
        lists: int32 [Y, X, K], indices of the centres, ascending.
    """

    center_y: Floats
    center_x: Floats
    listed: Ints
    lists: Ints


def group(
    logits: Floats, offset: Floats, rows: Axis, columns: Axis, is_thing: Flags, points: Ints
) -> tuple[Ints, Longs, Longs]:
    """Assign a code to every pixel: its category c, or C * (1 + k) + c if it is a thing's and nearest to centre k.

    Args:
        logits: float32 [C, h, w].
        offset: float32 [2, h, w], finite.
        rows: cells of the vertical axis.
        columns: cells of the horizontal axis.
        is_thing: bool [C].
        points: int32 [K, 2]; if there are none, things keep their category as code.

    Returns:
        The codes, int32 [H, W]; the area of each category, int64 [C]; and the number of pixels of each category that
        belong to each centre, int64 [K, C].
    """
    num_categories, num_centers = len(logits), len(points)
    shape = (len(rows.near), len(columns.near))
    code = np.empty(shape, dtype=np.int32)
    areas = np.zeros(num_categories, dtype=np.int64)
    votes = np.zeros((num_centers, num_categories), dtype=np.int64)
    center_y, center_x = points[:, 0].astype(np.float32), points[:, 1].astype(np.float32)
    buckets = (-(-shape[0] // _BUCKET), -(-shape[1] // _BUCKET))
    listed = np.full(buckets, -1, dtype=np.int32)
    lists = np.empty((*buckets, num_centers), dtype=np.int32)
    index = Buckets(center_y, center_x, listed, lists)
    _sweep(logits, offset, rows, columns, is_thing, index, code, areas, votes)
    return code, areas, votes


@jit
def _sweep(
    logits: Floats,
    offset: Floats,
    rows: Axis,
    columns: Axis,
    is_thing: Flags,
    buckets: Buckets,
    code: Ints,
    areas: Longs,
    votes: Longs,
) -> None:
    """Write codes one row of cells at a time: first the categories, then the centres of things."""
    num_categories, _, width = logits.shape
    inputs, candidates = new_workspace(num_categories, width)
    held = [-1, -1]
    has_things = np.empty(len(columns.low), dtype=np.bool_)
    for s in range(len(rows.low)):
        for row in (rows.low[s], rows.high[s]):
            i = row % 2
            if held[i] != row:
                held[i] = row
                find_winners(logits, row, inputs.logits[i], inputs.winner[i], inputs.clear[i])
        categorize_cells(inputs, rows, columns, s, is_thing, candidates, code, areas, has_things)
        if len(buckets.center_y) > 0:
            _group_things(offset, rows, columns, s, has_things, is_thing, buckets, code, votes)


@jit
def _group_things(
    offset: Floats,
    rows: Axis,
    columns: Axis,
    s: int,
    has_things: Flags,
    is_thing: Flags,
    buckets: Buckets,
    code: Ints,
    votes: Longs,
) -> None:
    """Replace the categories of thing pixels in a row of cells by the codes of their centres, and count votes."""
    width = code.shape[1]
    wide = np.empty((2, 2, width), dtype=np.float32)  # dy and dx, each above and below, upsampled horizontally
    t = 0
    while t < len(has_things):
        if not has_things[t]:
            t += 1
            continue
        left = columns.start[t]
        while t < len(has_things) and has_things[t]:
            low, high = columns.low[t], columns.high[t]
            for i in range(2):
                a, b = offset[i, rows.low[s], low], offset[i, rows.low[s], high]
                c, d = offset[i, rows.high[s], low], offset[i, rows.high[s], high]
                for x in range(columns.start[t], columns.start[t + 1]):
                    wide[i, 0, x] = columns.near[x] * a + columns.far[x] * b
                    wide[i, 1, x] = columns.near[x] * c + columns.far[x] * d
            t += 1
        for y in range(rows.start[s], rows.start[s + 1]):
            _group_span(wide, rows.near[y], rows.far[y], y, left, columns.start[t], is_thing, buckets, code, votes)


@jit
def _group_span(
    wide: Floats,
    near: np.float32,
    far: np.float32,
    y: int,
    left: int,
    right: int,
    is_thing: Flags,
    buckets: Buckets,
    code: Ints,
    votes: Longs,
) -> None:
    """Do the same for the columns ``left`` to ``right`` of one row."""
    height, width = code.shape
    center_y, center_x, listed, lists = buckets
    for x in range(left, right):
        c = code[y, x]
        if not is_thing[c]:
            continue
        place_y = np.float32(y) + (near * wide[0, 0, x] + far * wide[0, 1, x])
        place_x = np.float32(x) + (near * wide[1, 0, x] + far * wide[1, 1, x])
        nearest = np.uint32(0)
        if place_y >= 0 and place_x >= 0 and place_y < height and place_x < width:
            # Unsigned, which avoids the check for negative indices.
            i, j = np.uint32(place_y) // np.uint32(_BUCKET), np.uint32(place_x) // np.uint32(_BUCKET)
            if listed[i, j] < 0:
                listed[i, j] = _fill_bucket(center_y, center_x, int(i), int(j), lists[i, j])
            lowest = lowest_root = np.float32(np.inf)
            for n in range(np.uint32(listed[i, j])):
                k = np.uint32(lists[i, j, n])
                down, across = center_y[k] - place_y, center_x[k] - place_x
                squared = down * down + across * across
                if squared < lowest:
                    lowest, root = squared, np.sqrt(squared)
                    if root < lowest_root:
                        lowest_root, nearest = root, k
        else:
            nearest = np.uint32(_nearest_of_all(center_y, center_x, place_y, place_x))
        code[y, x] = len(is_thing) * (1 + nearest) + c
        votes[nearest, c] += 1


@jit
def _nearest_of_all(center_y: Floats, center_x: Floats, y: np.float32, x: np.float32) -> int:
    """Return the index of the centre nearest to any point, the first one of equal roots."""
    nearest, lowest = 0, np.float32(np.inf)
    for k in range(len(center_y)):
        down, across = center_y[k] - y, center_x[k] - x
        root = np.sqrt(down * down + across * across)
        nearest = k if root < lowest else nearest
        lowest = min(lowest, root)
    return nearest


@jit
def _fill_bucket(center_y: Floats, center_x: Floats, i: int, j: int, numbers: Ints) -> int:
    """List the centres that can be nearest to a point in bucket (i, j); return their number."""
    top, left = float(i) * _BUCKET, float(j) * _BUCKET
    bottom, right = top + _BUCKET, left + _BUCKET
    closest = np.inf
    for k in range(len(center_y)):
        y, x = float(center_y[k]), float(center_x[k])
        down, across = max(bottom - y, y - top), max(right - x, x - left)
        closest = min(closest, down * down + across * across)
    # Every point has a centre within this distance; the margin of one exceeds the rounding error of distances.
    limit = math.sqrt(closest) * (1 + 1e-5) + 0.05
    num = 0
    for k in range(len(center_y)):
        y, x = float(center_y[k]), float(center_x[k])
        down, across = max(top - y, y - bottom, 0.0), max(left - x, x - right, 0.0)
        if down * down + across * across <= limit * limit:
            numbers[num] = k
            num += 1
    return num


@jit
def paint(code: Ints, table: Ints) -> None:
    """Replace each code by its entry in ``table``."""
    for y in range(code.shape[0]):
        for x in range(code.shape[1]):
            code[y, x] = table[code[y, x]]
