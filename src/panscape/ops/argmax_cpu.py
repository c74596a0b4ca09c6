"""Compiled argmax over bilinearly upsampled planes, which never upsamples the planes as a whole.

*Cells* make it fast and keep it exact. The output pixels between four neighbouring inputs form a cell. If one category
wins at all four by a margin larger than the rounding error of interpolation, it wins in the whole cell. In other cells
a category is interpolated unless its highest corner is below the lowest corner of another one by such a margin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit
from panscape.ops.source_weights import LARGEST, ROUNDING, Axis

Ints = NDArray[np.int32]


Longs = NDArray[np.int64]


Flags = NDArray[np.bool_]


Floats = NDArray[np.float32]


_TINY = np.float32(1e-30)  # larger than any error by underflow


class InputRows(NamedTuple):
    """Two rows of inputs: an even row at index 0 and an odd row at index 1.

    Attributes:
        logits: float32 [2, C, w], a copy: the original planes lie a power of two apart, which causes cache conflicts.
        winner: int32 [2, w], the first largest category.
        clear: bool [2, w], whether it wins by more than the rounding error of interpolation.
    """

    logits: Floats
    winner: Ints
    clear: Flags


class Candidates(NamedTuple):
    """Buffers for the categories that may win in a cell.

    Attributes:
        category: int32 [C].
        top: float32 [C], value at the upper edge of the cell.
        bottom: float32 [C], value at the lower edge.
    """

    category: Ints
    top: Floats
    bottom: Floats


@jit
def _finite(value: np.float32) -> np.float32:
    """Return the value as :func:`panscape.ops.interpolate.finite_values` does."""
    above = value if value > -LARGEST else -LARGEST  # also replaces NaN
    return above if above < LARGEST else LARGEST


@jit
def find_winners(logits: Floats, row: int, copy: Floats, winner: Ints, clear: Flags) -> None:
    """Store the first largest category of each input of a row, and whether it wins despite any rounding error."""
    num_categories, _, width = logits.shape
    best = np.empty(width, dtype=np.float32)
    second = np.empty(width, dtype=np.float32)
    for x in range(width):
        best[x] = copy[0, x] = _finite(logits[0, row, x])
        second[x] = -np.inf
        winner[x] = 0
    for c in range(1, num_categories):
        values, kept = logits[c, row], copy[c]
        for x in range(width):
            value = _finite(values[x])
            kept[x] = value
            second[x] = max(second[x], min(best[x], value))
            winner[x] = np.int32(c) if value > best[x] else winner[x]
            best[x] = max(best[x], value)
    for x in range(width):
        clear[x] = best[x] - second[x] > abs(best[x]) * ROUNDING + _TINY


@jit
def categorize_cells(
    inputs: InputRows,
    rows: Axis,
    columns: Axis,
    s: int,
    is_thing: Flags,
    candidates: Candidates,
    code: Ints,
    areas: Longs,
    has_things: Flags,
) -> None:
    """Write the category of each pixel of a row of cells; runs of cells with one clear winner are filled together."""
    winner_above, winner_below = inputs.winner[rows.low[s] % 2], inputs.winner[rows.high[s] % 2]
    clear_above, clear_below = inputs.clear[rows.low[s] % 2], inputs.clear[rows.high[s] % 2]
    first, last = rows.start[s], rows.start[s + 1]
    t = 0
    while t < len(columns.low):
        left, category = columns.start[t], -1
        while t < len(columns.low):
            low, high = columns.low[t], columns.high[t]
            c = winner_above[low]
            if (
                (category >= 0 and c != category)
                or not (clear_above[low] and clear_above[high] and clear_below[low] and clear_below[high])
                or winner_above[high] != c
                or winner_below[low] != c
                or winner_below[high] != c
            ):
                break
            category = c
            has_things[t] = is_thing[c]
            t += 1
        if category >= 0:
            right = columns.start[t]
            code[first:last, left:right] = category
            areas[category] += (last - first) * (right - left)
        else:
            has_things[t] = _categorize_cell(inputs, rows, columns, s, t, is_thing, candidates, code, areas)
            t += 1


@jit
def _categorize_cell(
    inputs: InputRows,
    rows: Axis,
    columns: Axis,
    s: int,
    t: int,
    is_thing: Flags,
    candidates: Candidates,
    code: Ints,
    areas: Longs,
) -> bool:
    """Write the category of each pixel of one cell; return whether any of them is a thing."""
    low, high, i, j = columns.low[t], columns.high[t], rows.low[s] % 2, rows.high[s] % 2
    above, below, winner = inputs.logits[i], inputs.logits[j], inputs.winner
    candidate, top, bottom = candidates
    assured = np.float32(-np.inf)  # some category has at least this everywhere in the cell
    for c in (winner[i, low], winner[i, high], winner[j, low], winner[j, high]):
        lowest = min(min(above[c, low], above[c, high]), min(below[c, low], below[c, high]))
        assured = max(assured, lowest)
    num = 0
    for c in range(len(above)):
        highest = max(max(above[c, low], above[c, high]), max(below[c, low], below[c, high]))
        if not assured - highest > (abs(assured) + abs(highest)) * ROUNDING + _TINY:
            candidate[num] = c
            num += 1
    things = False
    for x in range(columns.start[t], columns.start[t + 1]):
        near, far = columns.near[x], columns.far[x]
        for n in range(num):
            c = candidate[n]
            top[n] = near * above[c, low] + far * above[c, high]
            bottom[n] = near * below[c, low] + far * below[c, high]
        for y in range(rows.start[s], rows.start[s + 1]):
            highest, category = np.float32(-np.inf), 0
            for n in range(num):
                value = rows.near[y] * top[n] + rows.far[y] * bottom[n]
                category = candidate[n] if value > highest else category
                highest = max(highest, value)
            code[y, x] = category
            areas[category] += 1
            things |= is_thing[category]
    return things


@jit
def new_workspace(num_categories: int, width: int) -> tuple[InputRows, Candidates]:
    """Return memory for two rows of inputs and for the candidates of a cell."""
    inputs = InputRows(
        np.empty((2, num_categories, width), dtype=np.float32),
        np.empty((2, width), dtype=np.int32),
        np.empty((2, width), dtype=np.bool_),
    )
    candidates = Candidates(
        np.empty(num_categories, dtype=np.int32),
        np.empty(num_categories, dtype=np.float32),
        np.empty(num_categories, dtype=np.float32),
    )
    return inputs, candidates


@jit
def fill_argmax(logits: Floats, rows: Axis, columns: Axis, category: Ints) -> None:
    """Write the index of the first largest plane at every pixel.

    Args:
        logits: float32 [C, h, w].
        rows: cells of the vertical axis.
        columns: cells of the horizontal axis.
        category: output, int32 [H, W].
    """
    num_categories, _, width = logits.shape
    inputs, candidates = new_workspace(num_categories, width)
    held = [-1, -1]
    is_thing, areas = np.zeros(num_categories, dtype=np.bool_), np.zeros(num_categories, dtype=np.int64)
    has_things = np.empty(len(columns.low), dtype=np.bool_)
    for s in range(len(rows.low)):
        for row in (rows.low[s], rows.high[s]):
            i = row % 2
            if held[i] != row:
                held[i] = row
                find_winners(logits, row, inputs.logits[i], inputs.winner[i], inputs.clear[i])
        categorize_cells(inputs, rows, columns, s, is_thing, candidates, category, areas, has_things)
