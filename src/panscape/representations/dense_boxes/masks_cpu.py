"""Compiled masks from dense boxes on the CPU, evaluated only where an object can be.

What makes it fast, and why it stays exact:

* *Categories.* P_loc is at most 1, so M reaches the threshold only where P_sem does: at few cells, and at any of them
  for at most two categories if the threshold is 0.4. These cells are listed once per category.
* *Objects.* P_loc is at most (I + 1) / (U + 1), which is compared without dividing; M is computed only where this bound
  reaches the threshold. Cells whose M is below the threshold by more than the rounding error cannot set a pixel alone.
* *Pixels.* A pixel lies between four cells and exceeds none of their maximum by more than the rounding error. Pixels
  are therefore computed only where one of the four cells is high, and are certain where all four are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit
from panscape.ops.source_weights import Axis

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]

MARGIN = np.float32(1e-4)  # much larger than the rounding error of a probability
_ZERO, _ONE, _TINY = np.float32(0), np.float32(1), np.float32(1e-7)


class _ActiveCells(NamedTuple):
    """The cells in which a category is probable, in raster order.

    Attributes:
        place: int64 [N], raster index.
        boxes: float32 [D, 4, N], the cells' boxes.
        prob: float32 [N], probability of the category.
    """

    place: Longs
    boxes: Floats
    prob: Floats


class _ScoreCache(NamedTuple):
    """Computed values of M for the current object, in buffers that all objects share.

    Attributes:
        value: float32 [h, w], M where it was computed.
        owner: int32 [h, w], the index of the object for which it was computed.
        first: int32 [h], the first column of each row where M is high; w if there is none.
        last: int32 [h], the last such column; -1 if there is none.
    """

    value: Floats
    owner: Ints
    first: Ints
    last: Ints


class _Threshold(NamedTuple):
    """The criterion of an object's pixels.

    Attributes:
        threshold: float32.
        low: slightly lower; pixels between cells below it are outside the object.
        high: slightly higher; pixels between cells of at least this are inside.
        is_released: the formula of the released code, see ``panscape.representations.dense_boxes.decode``.
    """

    threshold: np.float32
    low: np.float32
    high: np.float32
    is_released: bool


def build_masks(
    query: Floats,
    category: Longs,
    dense: Floats,
    prob: Floats,
    rows: Axis,
    columns: Axis,
    threshold: float,
    *,
    is_released: bool,
) -> tuple[Ints, list[Flags]]:
    """Return the windows of the masks, int32 [P, 4] xyxy, and their pixels.

    Args:
        query: float32 [P, 4].
        category: int64 [P].
        dense: float32 [D, 4, h, w].
        prob: float32 [T, h, w].
        rows: cells of the vertical axis.
        columns: cells of the horizontal axis.
        threshold: as for ``dense_masks``.
        is_released: the formula.
    """
    shape = dense.shape[2:]
    found = _ScoreCache(
        np.empty(shape, dtype=np.float32),
        np.full(shape, -1, dtype=np.int32),
        np.empty(shape[0], dtype=np.int32),
        np.empty(shape[0], dtype=np.int32),
    )
    limit = np.float32(threshold)
    rule = _Threshold(limit, limit - MARGIN, limit + MARGIN, is_released)
    likely: dict[int, _ActiveCells] = {}
    windows = np.zeros((len(query), 4), dtype=np.int32)
    crops = []
    for number, c in enumerate(category.tolist()):
        if c not in likely:
            place = np.flatnonzero(prob[c] >= rule.low)
            boxes = dense.reshape(len(dense), 4, -1)[:, :, place]
            likely[c] = _ActiveCells(place, boxes, prob[c].ravel()[place])
        _find_cells(number, query[number], likely[c], rule, found)
        span = _window(found, rows, columns)
        left, right = (int(columns.start[t]) for t in span[2:])
        top, bottom = (int(rows.start[s]) for s in span[:2])
        windows[number] = left, top, right, bottom
        crops.append(np.zeros((bottom - top, right - left), dtype=np.bool_))
        _fill(number, query[number], dense, prob[c], rule, found, rows, columns, span, crops[-1])
    return windows, crops


@jit
def _find_cells(number: int, query: Floats, cells: _ActiveCells, rule: _Threshold, found: _ScoreCache) -> None:
    """Compute M where it may be high, and store the extent of high values in each row."""
    height, width = found.value.shape
    num = len(cells.place)
    x1, y1, x2, y2 = query[0], query[1], query[2], query[3]
    own = (x2 - x1) * (y2 - y1)
    may = np.zeros(num, dtype=np.bool_)
    prob = cells.prob
    for d in range(len(cells.boxes)):
        left, top, right, bottom = cells.boxes[d, 0], cells.boxes[d, 1], cells.boxes[d, 2], cells.boxes[d, 3]
        for i in range(num):
            across = max(min(x2, right[i]) - max(x1, left[i]), _ZERO)
            down = max(min(y2, bottom[i]) - max(y1, top[i]), _ZERO)
            shared = across * down
            union = own + (right[i] - left[i]) * (bottom[i] - top[i]) - shared
            may[i] |= (shared + _ONE) * prob[i] >= rule.low * (union + _ONE)
    for y in range(height):
        found.first[y], found.last[y] = width, -1
    for i in range(num):
        if not may[i]:
            continue
        y, x = cells.place[i] // width, cells.place[i] % width
        value = _probability(query, cells.boxes[:, :, i], prob[i], rule.is_released)
        found.value[y, x], found.owner[y, x] = value, number
        if value >= rule.low:
            found.first[y] = min(found.first[y], np.int32(x))
            found.last[y] = max(found.last[y], np.int32(x))


@jit
def _probability(query: Floats, boxes: Floats, prob: np.float32, is_released: bool) -> np.float32:
    """Return M of one query and one cell, boxes [D, 4], with the reference's order of operations."""
    x1, y1, x2, y2 = query[0], query[1], query[2], query[3]
    best = np.float32(-np.inf)
    for d in range(len(boxes)):
        left, top, right, bottom = boxes[d, 0], boxes[d, 1], boxes[d, 2], boxes[d, 3]
        across = max(min(x2, right) - max(x1, left), _ZERO)
        shared = across * max(min(y2, bottom) - max(y1, top), _ZERO)
        union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - shared
        if is_released:
            around = (max(x2, right) - min(x1, left)) * (max(y2, bottom) - min(y1, top)) + _TINY
            value = (shared + _ONE) / (union + _ONE) - (around - union) / around
        else:
            value = shared / (_TINY if union < _TINY else union)
        best = value if value > best else best
    return best * prob


@jit
def _window(found: _ScoreCache, rows: Axis, columns: Axis) -> tuple[int, int, int, int]:
    """Return the ranges of cells of both axes within which pixels have a high cell among their four."""
    first, last = len(found.value[0]), -1
    begin, end = len(rows.low), 0
    for s in range(len(rows.low)):
        low, high = rows.low[s], rows.high[s]
        if max(found.last[low], found.last[high]) >= 0:
            begin, end = min(begin, s), s + 1
            first = min(first, min(found.first[low], found.first[high]))
            last = max(last, max(found.last[low], found.last[high]))
    if last < 0:
        return 0, 0, 0, 0
    left, right = len(columns.low), 0
    for t in range(len(columns.low)):
        if columns.high[t] >= first and columns.low[t] <= last:
            left, right = min(left, t), t + 1
    return begin, end, min(left, right), right


@jit
def _fill(
    number: int,
    query: Floats,
    dense: Floats,
    prob: Floats,
    rule: _Threshold,
    found: _ScoreCache,
    rows: Axis,
    columns: Axis,
    span: tuple[int, int, int, int],
    crop: Flags,
) -> None:
    """Set the object's pixels."""
    begin, end, left, right = span
    value, owner = found.value, found.owner
    for s in range(begin, end):
        low, high = rows.low[s], rows.high[s]
        first, last = min(found.first[low], found.first[high]), max(found.last[low], found.last[high])
        for t in range(left, right):
            x0, x1 = columns.low[t], columns.high[t]
            if x1 < first or x0 > last:
                continue
            if not (
                (owner[low, x0] == number and value[low, x0] >= rule.low)
                or (owner[low, x1] == number and value[low, x1] >= rule.low)
                or (owner[high, x0] == number and value[high, x0] >= rule.low)
                or (owner[high, x1] == number and value[high, x1] >= rule.low)
            ):
                continue
            for y, x in ((low, x0), (low, x1), (high, x0), (high, x1)):
                if owner[y, x] != number:
                    value[y, x] = _probability(query, dense[:, :, y, x], prob[y, x], rule.is_released)
                    owner[y, x] = number
            a, b, c, d = value[low, x0], value[low, x1], value[high, x0], value[high, x1]
            if a >= rule.high and b >= rule.high and c >= rule.high and d >= rule.high:
                for y in range(rows.start[s], rows.start[s + 1]):
                    for x in range(columns.start[t], columns.start[t + 1]):
                        crop[y - rows.start[begin], x - columns.start[left]] = True
                continue
            for x in range(columns.start[t], columns.start[t + 1]):
                top = columns.near[x] * a + columns.far[x] * b
                bottom = columns.near[x] * c + columns.far[x] * d
                for y in range(rows.start[s], rows.start[s + 1]):
                    pixel = rows.near[y] * top + rows.far[y] * bottom
                    reached = pixel >= rule.threshold if rule.is_released else pixel > rule.threshold
                    crop[y - rows.start[begin], x - columns.start[left]] = reached
