"""Compiled assignment of pixels to queries, which never upsamples a mask as a whole.

Masks are read once to find the least and largest logit of each query in *blocks* of cells; a cell is the pixels between
four neighbouring logits, and interpolation stays between them. In most blocks one query has the largest product of
score and probability whatever the values in between, and the block is filled. In the others, pixels are computed line
by line, first for the strongest queries; others are dropped if they cannot exceed the smallest product found, and else
all are computed again. The masks' areas are counted in the same way: a mask whose logits in a block have one sign needs
no interpolation.

Inner loops read every value before they write, and have no branches and no check for a division by zero: only then are
they vectorised.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.ops.interpolate_cpu import upsample_planes
from panscape.ops.jit import jit
from panscape.ops.source_weights import LARGEST, Axis, SourceWeights, cells_of
from panscape.representations.queries.assign import EXP_SERIES, LARGEST_LOGIT, LN_2, LOG2_E, ROUNDER

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]

# Pixels of the side of a block, at most. In larger ones there are fewer bounds, and more pixels are computed.
BLOCK_PIXELS = 32
# Logits below minus this are negative after interpolation too, as no weight is so small that they underflow.
_TINY = np.float32(1e-30)
# A product this much smaller than another one stays so despite rounding: interpolation changes a logit of 80 by less
# than 80 * 2^-19, and the probability by the same share.
_SMALLER = np.float32(1 - 2.0**-12)
# Share of the largest product in a block from which a query is strong, one of those that others are compared with.
_STRONG = np.float32(0.5)
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
    """Bounds of one row of B blocks, and buffers for one block of up to P x P pixels, S cells on a side.

    Attributes:
        least: least logit of a query in each column, float32 [B S + 1].
        most: largest logit, float32 [B S + 1].
        low: least logit of each query in each block, float32 [N, B].
        high: largest logit, float32 [N, B].
        product: upper bound of each query's product of score and probability in each block, float32 [N, B].
        assured: product that some query has at least in the whole block, float32 [B].
        query: queries that may win in a block, ascending, int64 [N].
        lines: logits of a query, interpolated between columns, float32 [S + 1, P].
        best: largest product at each pixel, float32 [P P].
    """

    least: Floats
    most: Floats
    low: Floats
    high: Floats
    product: Floats
    assured: Floats
    query: Longs
    lines: Floats
    best: Floats


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
    for first in range(0, len(seen_rows.low), BLOCK_PIXELS):
        last = min(first + BLOCK_PIXELS, len(seen_rows.low))
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
    # Unlike the operator, it does not check for zero.
    prob: np.float32 = np.divide(_ONE, _ONE + series * bits.view(np.float32))
    return prob


@jit
def assign_blocks(scene: Scene) -> None:
    """Assign all pixels, one row of blocks after the other."""
    num, (_, height, width) = len(scene.kept), scene.planes.shape
    rows, columns = scene.rows.start, scene.columns.start
    side = 1  # cells, a power of two
    while side < BLOCK_PIXELS and 2 * side * columns[width] <= BLOCK_PIXELS * width:
        side *= 2
    num_blocks = (width + side - 1) // side
    num_rows = num_columns = 0
    for y in range(0, height, side):
        num_rows = max(num_rows, rows[min(y + side, height)] - rows[y])
    for x in range(0, width, side):
        num_columns = max(num_columns, columns[min(x + side, width)] - columns[x])
    work = Workspace(
        np.empty(num_blocks * side + 1, dtype=np.float32),
        np.empty(num_blocks * side + 1, dtype=np.float32),
        np.empty((num, num_blocks), dtype=np.float32),
        np.empty((num, num_blocks), dtype=np.float32),
        np.empty((num, num_blocks), dtype=np.float32),
        np.empty(num_blocks, dtype=np.float32),
        np.empty(num, dtype=np.int64),
        np.empty((side + 1, num_columns), dtype=np.float32),
        np.empty(num_rows * num_columns, dtype=np.float32),
    )
    for y in range(0, height, side):
        if rows[y] == rows[min(y + side, height)]:
            continue
        for n in range(num):
            _find_bounds(scene.planes[scene.kept[n]], y, side, work.least, work.most, work.low[n], work.high[n])
        _find_products(scene.score, work)
        for block in range(num_blocks):
            _assign_block(scene, y, block, side, work)


@jit
def _find_bounds(plane: Floats, y: int, side: int, least: Floats, most: Floats, low: Floats, high: Floats) -> None:
    """Store the least and largest logit of a query in each block of a row, with the first logits of the next ones."""
    height, width = plane.shape
    for x in range(width):
        least[x], most[x] = LARGEST, -LARGEST
    for row in range(y, min(y + side + 1, height)):
        values = plane[row]
        for x in range(width):
            value, low_value, high_value = values[x], least[x], most[x]
            value = value if value > -LARGEST else -LARGEST  # also replaces NaN
            least[x] = value if value < low_value else low_value
            most[x] = value if value > high_value else high_value
    least[width:], most[width:] = least[width - 1], most[width - 1]
    for block in range(len(low)):
        low_value, high_value = least[block * side], most[block * side]
        for x in range(block * side + 1, block * side + side + 1):
            low_value, high_value = min(low_value, least[x]), max(high_value, most[x])
        low[block], high[block] = low_value, min(high_value, LARGEST)


@jit
def _find_products(score: Floats, work: Workspace) -> None:
    """Store the bounds of products in each block."""
    assured = work.assured
    assured[:] = _ZERO
    for n in range(len(score)):
        low, high, product = work.low[n], work.high[n], work.product[n]
        for block in range(len(assured)):
            value, other = score[n] * _logistic(low[block]), assured[block]
            assured[block] = value if value > other else other
            product[block] = score[n] * _logistic(high[block])
    for block in range(len(assured)):
        assured[block] *= _SMALLER


@jit
def _assign_block(scene: Scene, y: int, block: int, side: int, work: Workspace) -> None:
    """Assign the pixels of one block, and count the pixels inside each mask."""
    height, width = scene.planes.shape[1:]
    x = block * side
    top, bottom = scene.rows.start[y], scene.rows.start[min(y + side, height)]
    left, right = scene.columns.start[x], scene.columns.start[min(x + side, width)]
    area, num = (bottom - top) * (right - left), len(scene.kept)
    if area == 0:
        return
    count, strongest = 0, _ZERO
    for n in range(num):
        if work.low[n, block] >= 0:
            scene.num_inside[n] += area
        elif work.high[n, block] >= -_TINY:
            _spread_columns(scene, n, y, x, side, work.lines)
            scene.num_inside[n] += _num_inside(scene.rows, y, min(y + side, height), right - left, work.lines)
        if work.product[n, block] >= work.assured[block]:
            work.query[count] = n
            count += 1
            strongest = max(strongest, work.product[n, block])
    n = work.query[0]
    if count == 1 and (work.low[n, block] >= 0 or work.high[n, block] < -_TINY):
        found = n if work.low[n, block] >= 0 else n + num
        scene.code[top:bottom, left:right] = found
        scene.num_assigned[found] += area
        return
    least = _compete(scene, y, x, side, block, strongest * _STRONG, count, work) * _SMALLER
    for i in range(count):
        if least <= work.product[work.query[i], block] < strongest * _STRONG:
            _compete(scene, y, x, side, block, least, count, work)
            break
    for py in range(top, bottom):
        line = scene.code[py, left:right]
        last, length = line[0], 0  # runs of one code are counted together
        for code in line:
            if code != last:
                scene.num_assigned[last] += length
                last, length = code, 0
            length += 1
        scene.num_assigned[last] += length


@jit
def _compete(
    scene: Scene, y: int, x: int, side: int, block: int, bound: np.float32, count: int, work: Workspace
) -> np.float32:
    """Assign the pixels of a block to the first ``count`` queries whose product may reach a bound.

    Returns:
        The smallest of the pixels' products.
    """
    height, columns = scene.planes.shape[1:]
    rows, last_y, num = scene.rows, min(y + side, height), len(scene.kept)
    top, bottom = rows.start[y], rows.start[last_y]
    left, right = scene.columns.start[x], scene.columns.start[min(x + side, columns)]
    width = right - left
    best = work.best[: (bottom - top) * width]
    best[:] = -_ONE
    for i in range(count):
        n = work.query[i]
        if work.product[n, block] < bound:
            continue
        _spread_columns(scene, n, y, x, side, work.lines)
        score, inside, outside = scene.score[n], np.int32(n), np.int32(n + num)
        for row in range(y, last_y):
            above, below = work.lines[row - y], work.lines[row - y + 1]
            for py in range(rows.start[row], rows.start[row + 1]):
                near, far = rows.near[py], rows.far[py]
                _compete_line(
                    above,
                    below,
                    near,
                    far,
                    score,
                    inside,
                    outside,
                    best[(py - top) * width : (py - top + 1) * width],
                    scene.code[py, left:right],
                )
    least = np.int32(_least(best.view(np.int32)))
    return least.view(np.float32)


@jit
def _least(values: Ints) -> np.int32:
    """Return the smallest integer; those of floats that are not negative are in the same order."""
    least = np.int32(2147483647)
    for value in values:
        least = value if value < least else least
    return least


@jit
def _compete_line(
    above: Floats,
    below: Floats,
    near: np.float32,
    far: np.float32,
    score: np.float32,
    inside: np.int32,
    outside: np.int32,
    best: Floats,
    code: Ints,
) -> None:
    """Assign the pixels of a line of a block to a query where its product is larger than the best so far."""
    for px in range(len(best)):
        old, old_code = best[px], code[px]
        logit = near * above[px] + far * below[px]
        value = score * _logistic(logit)
        found = inside if logit >= 0 else outside
        best[px] = value if value > old else old
        code[px] = found if value > old else old_code


@jit
def _spread_columns(scene: Scene, n: int, y: int, x: int, side: int, lines: Floats) -> None:
    """Store the logits of a query in a block, interpolated between columns; the last ones are repeated beyond it."""
    plane, columns = scene.planes[scene.kept[n]], scene.columns
    height, width = plane.shape
    left = columns.start[x]
    for i in range(side + 1):
        values, line = plane[min(y + i, height - 1)], lines[i]
        before = _finite(values[x])
        for column in range(x, min(x + side, width)):
            after = _finite(values[min(column + 1, width - 1)])
            for px in range(columns.start[column], columns.start[column + 1]):
                line[px - left] = columns.near[px] * before + columns.far[px] * after
            before = after


@jit
def _num_inside(rows: Axis, y: int, last_y: int, num_columns: int, lines: Floats) -> int:
    """Return the number of pixels of a block whose logit is not negative."""
    count = 0
    for row in range(y, last_y):
        above, below = lines[row - y], lines[row - y + 1]
        for py in range(rows.start[row], rows.start[row + 1]):
            near, far = rows.near[py], rows.far[py]
            for px in range(num_columns):
                count += near * above[px] + far * below[px] >= 0
    return count


@jit
def renumber(code: Ints, table: Ints) -> None:
    """Replace each code by its entry in the table, in place."""
    for y in range(len(code)):
        for x in range(code.shape[1]):
            code[y, x] = table[code[y, x]]
