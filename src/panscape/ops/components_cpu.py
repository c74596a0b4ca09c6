"""Connected components of equal values in a map, as horizontal runs of pixels; diagonal neighbours are connected.

Scanning by runs keeps the cost near that of reading the map once: a component is a union of runs, and no image of
labels is made. :func:`panscape.ops.components.components_reference` is the definition.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Components(NamedTuple):
    """N connected components as R runs of pixels in raster order.

    Attributes:
        row: row of each run, int32 [R].
        start: its first column, int32 [R].
        stop: the column after its last one, int32 [R].
        component: the component that it belongs to, 0..N-1 in the order of their first pixels, int32 [R].
        value: value of each component, int32 [N].
        area: number of pixels of each component, int64 [N].
    """

    row: Ints
    start: Ints
    stop: Ints
    component: Ints
    value: Ints
    area: Longs


def find_components(values: Ints, is_counted: Flags) -> Components:
    """Find the 8-connected components of equal values.

    Args:
        values: int32 [H, W], each at least 0 and below V.
        is_counted: whether to return the components of each value, bool [V]; the others are background.
    """
    capacity = 16 * len(values)
    while True:
        row, start, stop, parent = (np.empty(capacity, dtype=np.int32) for _ in range(4))
        num_runs = _link_runs(values, is_counted, row, start, stop, parent)
        if num_runs <= capacity:
            break
        capacity = num_runs
    row, start, stop, component = (part[:num_runs] for part in (row, start, stop, parent))
    first = _number_components(component)
    area = np.bincount(component, stop - start, minlength=len(first)).astype(np.int64)
    return Components(row, start, stop, component, values[row[first], start[first]], area)


def paint_components(image: Ints, components: Components, new_value: Ints) -> None:
    """Write the new value of each component, int32 [N], into its pixels."""
    _paint_runs(image, components.row, components.start, components.stop, components.component, new_value)


@jit
def _link_runs(values: Ints, is_counted: Flags, row: Ints, start: Ints, stop: Ints, parent: Ints) -> int:
    """Write the runs as far as the buffers allow, each with an earlier run of its component; return their number."""
    height, width = values.shape
    num = 0
    above, here = 0, 0  # first runs of the previous and of the present row
    for y in range(height):
        above, here = here, num
        touching = above
        x = 0
        while x < width:
            value, left = values[y, x], x
            x += 1
            while x < width and values[y, x] == value:
                x += 1
            if not is_counted[value]:
                continue
            if num < len(parent):
                row[num], start[num], stop[num], parent[num] = y, left, x, num
                while touching < here and stop[touching] < left:
                    touching += 1
                other = touching
                while other < here and start[other] <= x:
                    if values[y - 1, start[other]] == value:
                        _join(parent, other, num)
                    other += 1
            num += 1
    return num


@jit
def _join(parent: Ints, i: int, j: int) -> None:
    """Join the components of two runs; the root of a component is its first run."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    while parent[j] != j:
        parent[j] = parent[parent[j]]
        j = parent[j]
    parent[max(i, j)] = min(i, j)


@jit
def _number_components(parent: Ints) -> Longs:
    """Replace each run's link by the number of its component; return the first run of each component."""
    first = np.empty(len(parent), dtype=np.int64)
    num = 0
    for i in range(len(parent)):
        if parent[i] == i:
            first[num] = i
            parent[i] = num
            num += 1
        else:
            parent[i] = parent[parent[i]]  # a link leads to an earlier run, whose number is known
    return first[:num].copy()


@jit
def _paint_runs(image: Ints, row: Ints, start: Ints, stop: Ints, component: Ints, new_value: Ints) -> None:
    for i in range(len(row)):
        value = new_value[component[i]]
        if image[row[i], start[i]] != value:
            image[row[i], start[i] : stop[i]] = value
