"""Compiled assignment of pixels to queries, which never upsamples a mask as a whole.

Masks are read once to find the least and largest logit of each query in *blocks* of 8 x 8 cells; a cell is the pixels
between four neighbouring logits, and interpolation stays between them. In most blocks one query has the largest product
of score and probability whatever the values in between, and the block is filled. In the others the same is tried for
every cell, with only the queries that may win; pixels are interpolated in the few remaining cells. The masks' areas are
counted in the same way: a mask whose logits in a block have one sign needs no interpolation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.ops.interpolate import LARGEST, Axis, SourceWeights, cells_of
from panscape.ops.interpolate_cpu import upsample_planes
from panscape.ops.jit import jit
from panscape.representations.queries.assign import EXP_SERIES, LARGEST_LOGIT, LN_2, LOG2_E, ROUNDER

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]

BLOCK = 8
# Logits below minus this are negative after interpolation too, as no weight is so small that they underflow.
_TINY = np.float32(1e-30)
# A product this much smaller than another one stays so despite rounding: interpolation changes a logit of 80 by less
# than 80 * 2^-19, and the probability by the same share.
_SMALLER = np.float32(1 - 2.0**-12)
# Share of the largest product in a block from which a query is strong, one of those that others are compared with.
_STRONG = np.float32(0.5)
# Above the sigmoid of logits from -80, -79, ... to the next integer.
_STEPS = (1.001 / (1 + np.exp(-np.arange(-79.0, 82.0)))).astype(np.float32)
_ZERO, _ONE = np.float32(0), np.float32(1)
_BIAS, _SHIFT = np.int32(127), np.int32(23)
_LN_2_HIGH, _LN_2_LOW = LN_2
_C6, _C5, _C4, _C3, _C2, _C1, _C0 = EXP_SERIES


class Scene(NamedTuple):
    """Masks of N queries and what is written; pixels of cell (y, x) are those between the starts y, y + 1 and x, x + 1.

    Attributes:
        planes: logits, float32 [Q, h, w].
        kept: planes of the queries, int64 [N].
        score: of each query, float32 [N].
        rows: one cell for each of the h rows of logits, which may be empty.
        columns: one cell for each of the w columns of logits.
        code: output, int32 [H, W], see :class:`~panscape.representations.queries.assign.Assignment`.
        num_assigned: output, int64 [2 N].
        num_inside: output, int64 [N].
    """

    planes: Floats
    kept: Longs
    score: Floats
    rows: Axis
    columns: Axis
    code: Ints
    num_assigned: Longs
    num_inside: Longs


class Workspace(NamedTuple):
    """Buffers for one block.

    Attributes:
        patch: logits of the queries that may win, float32 [N, 9, 9].
        query: these queries, int32 [N].
        low: least logit of each query in a block or cell, float32 [N].
        high: largest logit, float32 [N].
        score: score of each of these queries, float32 [N].
        chosen: positions among them of those that may win in a cell, int32 [N].
        top: logit at the upper edge of the cell, float32 [N].
        bottom: logit at the lower edge, float32 [N].
        envelope: float32 [8, 8], of each cell, the largest of several queries' least logits.
    """

    patch: Floats
    query: Ints
    low: Floats
    high: Floats
    score: Floats
    chosen: Ints
    top: Floats
    bottom: Floats
    envelope: Floats


def cell_per_input(weights: SourceWeights, num_inputs: int) -> Axis:
    """Return an axis with one cell for every input; those without outputs are empty."""
    cells = cells_of(weights)
    index = np.arange(num_inputs, dtype=np.int32)
    start = np.searchsorted(weights.low, np.arange(num_inputs + 1)).astype(np.int32)
    return Axis(start, index, np.minimum(index + 1, np.int32(num_inputs - 1)), cells.near, cells.far)


def assign_pixels(
    planes: Floats, kept: Longs, score: Floats, steps: list[tuple[SourceWeights, SourceWeights]]
) -> tuple[Ints, Longs, Longs]:
    """Return code, num_assigned and num_inside, bit-identical to the plain reference.

    Args:
        planes: logits, float32 [Q, h, w].
        kept: planes of the N queries, int64 [N].
        score: of each of them, float32 [N].
        steps: see :func:`~panscape.representations.queries.assign.resize_weights`.
    """
    rows, columns = steps[-1]
    code = np.empty((len(rows.low), len(columns.low)), dtype=np.int32)
    counts = np.zeros(2 * len(kept), dtype=np.int64), np.zeros(len(kept), dtype=np.int64)
    if len(steps) == 1:
        down, across = (cell_per_input(axis, n) for axis, n in zip(steps[0], planes.shape[1:], strict=True))
        assign_blocks(Scene(planes, kept, score, down, across, code, *counts))
        return code, *counts
    planes, kept = planes[kept], np.arange(len(kept))
    np.nan_to_num(planes, copy=False, nan=-float(LARGEST), posinf=float(LARGEST), neginf=-float(LARGEST))
    np.clip(planes, -LARGEST, LARGEST, out=planes)
    seen_rows, seen_columns = steps[0]
    wide, across = cells_of(seen_columns), cell_per_input(columns, len(seen_columns.low))
    # In bands of whole blocks, each computed with the first row of the next one.
    for first in range(0, len(seen_rows.low), 4 * BLOCK):
        last = min(first + 4 * BLOCK, len(seen_rows.low))
        top, bottom = np.searchsorted(rows.low, (first, last))
        if top == bottom:
            continue
        needed = slice(first, min(last + 1, len(seen_rows.low)))
        seen = np.empty((len(kept), needed.stop - first, len(seen_columns.low)), dtype=np.float32)
        upsample_planes(planes, cells_of(seen_rows.part(needed)), wide, seen)
        down = cell_per_input(rows.part(slice(top, bottom), first), seen.shape[1])
        assign_blocks(Scene(seen, kept, score, down, across, code[top:bottom], *counts))
    return code, *counts


@jit
def _finite(value: np.float32) -> np.float32:
    """Return the value as :func:`panscape.ops.interpolate.finite_values` does."""
    above = value if value > -LARGEST else -LARGEST  # also replaces NaN
    return above if above < LARGEST else LARGEST


@jit
def _logistic(logit: np.float32) -> np.float32:
    """Return the sigmoid as :func:`panscape.representations.queries.assign.logistic` does."""
    exponent = -logit
    exponent = exponent if exponent < LARGEST_LOGIT else LARGEST_LOGIT
    exponent = exponent if exponent > -LARGEST_LOGIT else -LARGEST_LOGIT
    power = (exponent * LOG2_E + ROUNDER) - ROUNDER
    rest = (exponent - power * _LN_2_HIGH) - power * _LN_2_LOW
    series = (((((_C6 * rest + _C5) * rest + _C4) * rest + _C3) * rest + _C2) * rest + _C1) * rest + _C0
    bits = np.int32((np.int32(power) + _BIAS) << _SHIFT)
    return _ONE / (_ONE + series * bits.view(np.float32))


@jit
def _above_logistic(logit: np.float32) -> np.float32:
    """Return a number above the sigmoid, without computing it."""
    return np.float32(_STEPS[int(min(max(logit, -LARGEST_LOGIT), LARGEST_LOGIT) + LARGEST_LOGIT)])


@jit
def assign_blocks(scene: Scene) -> None:
    """Assign all pixels, one row of blocks after the other."""
    num, (_, height, width) = len(scene.kept), scene.planes.shape
    num_blocks = (width + BLOCK - 1) // BLOCK
    low = np.empty((num_blocks, num), dtype=np.float32)
    high = np.empty((num_blocks, num), dtype=np.float32)
    edge = BLOCK + 1
    work = Workspace(
        np.empty((num, edge, edge), dtype=np.float32),
        np.empty(num, dtype=np.int32),
        np.empty(num, dtype=np.float32),
        np.empty(num, dtype=np.float32),
        np.empty(num, dtype=np.float32),
        np.empty(num, dtype=np.int32),
        np.empty(num, dtype=np.float32),
        np.empty(num, dtype=np.float32),
        np.empty((BLOCK, BLOCK), dtype=np.float32),
    )
    for y in range(0, height, BLOCK):
        if scene.rows.start[y] == scene.rows.start[min(y + BLOCK, height)]:
            continue
        for n in range(num):
            _find_bounds(scene.planes[scene.kept[n]], y, n, low, high)
        for block in range(num_blocks):
            _assign_block(scene, y, block * BLOCK, low[block], high[block], work)


@jit
def _find_bounds(plane: Floats, y: int, n: int, low: Floats, high: Floats) -> None:
    """Store the least and largest logit of a query in each block of a row, with the first logits of the next ones."""
    height, width = plane.shape
    least, most = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    for x in range(width):
        least[x] = most[x] = _finite(plane[y, x])
    for row in range(y + 1, min(y + BLOCK + 1, height)):
        values = plane[row]
        for x in range(width):
            value = _finite(values[x])
            least[x] = value if value < least[x] else least[x]
            most[x] = value if value > most[x] else most[x]
    for block in range(len(low)):
        lowest, highest = least[block * BLOCK], most[block * BLOCK]
        for x in range(block * BLOCK + 1, min((block + 1) * BLOCK + 1, width)):
            lowest = least[x] if least[x] < lowest else lowest
            highest = most[x] if most[x] > highest else highest
        low[block, n] = lowest
        high[block, n] = highest


@jit
def _find_candidates(score: Floats, low: Floats, high: Floats, num: int, found: Ints) -> int:
    """Store which of the first ``num`` queries may win somewhere between these logits, ascending; return how many."""
    assured, best = _ZERO, 0  # the best query has at least this product everywhere
    for n in range(num):
        if score[n] * _above_logistic(low[n]) > assured:
            value = score[n] * _logistic(low[n])
            if value > assured:
                assured, best = value, n
    assured *= _SMALLER
    count = 0
    for n in range(num):
        if n == best or (score[n] * _above_logistic(high[n]) >= assured and score[n] * _logistic(high[n]) >= assured):
            found[count] = n
            count += 1
    return count


@jit
def _assign_block(scene: Scene, y: int, x: int, low: Floats, high: Floats, work: Workspace) -> None:
    """Assign the pixels of one block, and count the pixels inside each mask."""
    height, width = scene.planes.shape[1:]
    last_y, last_x = min(y + BLOCK, height), min(x + BLOCK, width)
    top, bottom = scene.rows.start[y], scene.rows.start[last_y]
    left, right = scene.columns.start[x], scene.columns.start[last_x]
    area, num = (bottom - top) * (right - left), len(low)
    if area == 0:
        return
    for n in range(num):
        if low[n] >= 0:
            scene.num_inside[n] += area
        elif high[n] >= -_TINY:
            _copy_patch(scene.planes[scene.kept[n]], y, x, work.patch[0])
            scene.num_inside[n] += _num_inside(work.patch[0], scene.rows, scene.columns, y, x, last_y, last_x)
    count = _find_candidates(scene.score, low, high, num, work.query)
    n = work.query[0]
    if count == 1 and (low[n] >= 0 or high[n] < -_TINY):
        code = n if low[n] >= 0 else n + num
        scene.code[top:bottom, left:right] = code
        scene.num_assigned[code] += area
        return
    if count > 1:
        count = _keep_contenders(scene, y, x, high, count, work)
    for i in range(count):
        _copy_patch(scene.planes[scene.kept[work.query[i]]], y, x, work.patch[i])
        work.score[i] = scene.score[work.query[i]]
    _assign_cells(scene, y, x, last_y, last_x, count, work)


@jit
def _keep_contenders(scene: Scene, y: int, x: int, high: Floats, count: int, work: Workspace) -> int:
    """Drop candidates that lose in every cell of a block to the strongest ones; return how many remain.

    At the border of two masks neither is sure of the whole block, but in each cell one of them is far above the rest.
    """
    most = _ZERO
    for i in range(count):
        n = work.query[i]
        work.top[i] = scene.score[n] * _above_logistic(high[n])
        most = max(most, work.top[i])
    least_score, num_strong = _ONE, 0
    for i in range(count):
        if work.top[i] >= most * _STRONG:
            n = work.query[i]
            _copy_patch(scene.planes[scene.kept[n]], y, x, work.patch[num_strong])
            least_score = min(least_score, scene.score[n])
            num_strong += 1
    envelope, patch = work.envelope, work.patch  # of the least logits in each cell
    envelope[:] = -LARGEST
    for k in range(num_strong):
        for i in range(BLOCK):
            for j in range(BLOCK):
                a, b, c, d = patch[k, i, j], patch[k, i, j + 1], patch[k, i + 1, j], patch[k, i + 1, j + 1]
                a, c = a if a < b else b, c if c < d else d
                a = a if a < c else c
                envelope[i, j] = a if a > envelope[i, j] else envelope[i, j]
    assured = LARGEST
    for lowest in envelope.flat:
        assured = min(assured, lowest)
    least = least_score * _logistic(assured) * _SMALLER
    remaining = 0
    for i in range(count):
        if work.top[i] >= least:
            work.query[remaining] = work.query[i]
            remaining += 1
    return remaining


@jit
def _copy_patch(plane: Floats, y: int, x: int, patch: Floats) -> None:
    """Copy the logits around the cells of a block; the last ones of the plane are repeated beyond it."""
    height, width = plane.shape
    num = min(BLOCK + 1, width - x)
    for i in range(BLOCK + 1):
        row = min(y + i, height - 1)
        for j in range(num):
            patch[i, j] = _finite(plane[row, x + j])
        for j in range(num, BLOCK + 1):
            patch[i, j] = patch[i, num - 1]


@jit
def _num_inside(patch: Floats, rows: Axis, columns: Axis, y: int, x: int, last_y: int, last_x: int) -> int:
    """Return the number of pixels of a block whose logit is not negative."""
    count = 0
    for row in range(y, last_y):
        for column in range(x, last_x):
            i, j = row - y, column - x
            a, b, c, d = patch[i, j], patch[i, j + 1], patch[i + 1, j], patch[i + 1, j + 1]
            if min(min(a, b), min(c, d)) >= 0:
                size = rows.start[row + 1] - rows.start[row]
                count += size * (columns.start[column + 1] - columns.start[column])
            elif max(max(a, b), max(c, d)) >= -_TINY:
                for px in range(columns.start[column], columns.start[column + 1]):
                    above = columns.near[px] * a + columns.far[px] * b
                    below = columns.near[px] * c + columns.far[px] * d
                    for py in range(rows.start[row], rows.start[row + 1]):
                        count += rows.near[py] * above + rows.far[py] * below >= 0
    return count


@jit
def _assign_cells(scene: Scene, y: int, x: int, last_y: int, last_x: int, num: int, work: Workspace) -> None:
    """Assign the pixels of each cell of a block to one of ``num`` queries."""
    num_queries, code, num_assigned = len(scene.kept), scene.code, scene.num_assigned
    row_start, column_start = scene.rows.start, scene.columns.start
    patch, query, low, high, score, chosen = work.patch, work.query, work.low, work.high, work.score, work.chosen
    for row in range(y, last_y):
        top, bottom, i = row_start[row], row_start[row + 1], row - y
        for column in range(x, last_x):
            left, right, j = column_start[column], column_start[column + 1], column - x
            if top == bottom or left == right:
                continue
            for k in range(num):
                a, b, c, d = patch[k, i, j], patch[k, i, j + 1], patch[k, i + 1, j], patch[k, i + 1, j + 1]
                low[k] = min(min(a, b), min(c, d))
                high[k] = max(max(a, b), max(c, d))
            count = _find_candidates(score, low, high, num, chosen)
            k = chosen[0]
            if count == 1 and (low[k] >= 0 or high[k] < -_TINY):
                found = query[k] if low[k] >= 0 else query[k] + num_queries
                for py in range(top, bottom):
                    for px in range(left, right):
                        code[py, px] = found
                num_assigned[found] += (bottom - top) * (right - left)
            else:
                _assign_pixels_of_cell(scene.rows, scene.columns, row, column, i, j, count, work, code, num_assigned)


@jit
def _assign_pixels_of_cell(
    rows: Axis,
    columns: Axis,
    row: int,
    column: int,
    i: int,
    j: int,
    num: int,
    work: Workspace,
    code: Ints,
    num_assigned: Longs,
) -> None:
    """Assign each pixel of the cell at (i, j) of the patches to one of the ``num`` chosen queries."""
    patch, query, score, chosen = work.patch, work.query, work.score, work.chosen
    num_queries = len(query)
    for px in range(columns.start[column], columns.start[column + 1]):
        near, far = columns.near[px], columns.far[px]
        for m in range(num):
            k = chosen[m]
            work.top[m] = near * patch[k, i, j] + far * patch[k, i, j + 1]
            work.bottom[m] = near * patch[k, i + 1, j] + far * patch[k, i + 1, j + 1]
        for py in range(rows.start[row], rows.start[row + 1]):
            best, found = -_ONE, 0
            for m in range(num):
                logit = rows.near[py] * work.top[m] + rows.far[py] * work.bottom[m]
                value = score[chosen[m]] * _logistic(logit) if num > 1 else _ONE
                if value > best:
                    best = value
                    found = query[chosen[m]] if logit >= 0 else query[chosen[m]] + num_queries
            code[py, px] = found
            num_assigned[found] += 1


@jit
def renumber(code: Ints, table: Ints) -> None:
    """Replace each code by its entry in the table, in place."""
    for y in range(len(code)):
        for x in range(code.shape[1]):
            code[y, x] = table[code[y, x]]
