"""Compiled peak detection on a centre heatmap, which upsamples only the parts that may exceed the threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit
from panscape.ops.source_weights import ROUNDING, Axis

Ints = NDArray[np.int32]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]


def find_peaks(
    center: Floats, rows: Axis, columns: Axis, threshold: float, nms_kernel: int, join_peaks: bool = False
) -> tuple[Ints, Floats]:
    """Return all centres in raster order: points int32 [K, 2] and heatmap values float32 [K].

    Args:
        center: float32 [h, w].
        rows: cells of the vertical axis.
        columns: cells of the horizontal axis.
        threshold: minimum value of a centre, exclusive.
        nms_kernel: side of the NMS window, of which a centre is the maximum.
        join_peaks: return only the first of the centres within one window of each other.
    """
    shape = (len(rows.near), len(columns.near))
    heat = np.zeros(shape, dtype=np.float32)
    active = np.zeros((len(rows.low), len(columns.low)), dtype=np.bool_)
    _upsample_heat(center, rows, columns, np.float32(threshold), heat, active)
    capacity = 1024
    while True:
        points, peaks = np.empty((capacity, 2), dtype=np.int32), np.empty(capacity, dtype=np.float32)
        found = _collect_peaks(heat, active, rows, columns, np.float32(threshold), nms_kernel // 2, points, peaks)
        if found <= capacity:
            break
        capacity = found
    points, peaks = points[:found], peaks[:found]
    if join_peaks:
        is_first = np.empty(found, dtype=np.bool_)
        _mark_first(points, nms_kernel // 2, is_first)
        points, peaks = points[is_first], peaks[is_first]
    return points, peaks


@jit
def _upsample_heat(
    center: Floats, rows: Axis, columns: Axis, threshold: np.float32, heat: Floats, active: Flags
) -> None:
    """Upsample the heatmap in the cells that may exceed ``threshold``, and mark them."""
    # Rounding cannot raise a value below this above the threshold.
    level = threshold - threshold * ROUNDING
    for s in range(len(rows.low)):
        above, below = center[rows.low[s]], center[rows.high[s]]
        for t in range(len(columns.low)):
            a, b = above[columns.low[t]], above[columns.high[t]]
            c, d = below[columns.low[t]], below[columns.high[t]]
            if max(max(a, b), max(c, d)) <= level:
                continue
            active[s, t] = True
            for x in range(columns.start[t], columns.start[t + 1]):
                top = columns.near[x] * a + columns.far[x] * b
                bottom = columns.near[x] * c + columns.far[x] * d
                for y in range(rows.start[s], rows.start[s + 1]):
                    heat[y, x] = rows.near[y] * top + rows.far[y] * bottom


@jit
def _collect_peaks(
    heat: Floats,
    active: Flags,
    rows: Axis,
    columns: Axis,
    threshold: np.float32,
    reach: int,
    points: Ints,
    peaks: Floats,
) -> int:
    """Write the centres as far as the buffers allow; return the number of centres."""
    last_y, last_x = heat.shape[0] - 1, heat.shape[1] - 1
    found = 0
    witness_y, witness_x = -1, -1  # the pixel that last ruled out a centre; it often rules out the next ones
    for s in range(len(rows.low)):
        for y in range(rows.start[s], rows.start[s + 1]):
            accepted = -2  # column of the last centre in the current row
            for t in range(len(columns.low)):
                if not active[s, t]:
                    continue
                for x in range(columns.start[t], columns.start[t + 1]):
                    value = heat[y, x]
                    if not value > threshold:
                        continue
                    if reach > 0 and (
                        (x > 0 and heat[y, x - 1] > value)
                        or (x < last_x and heat[y, x + 1] > value)
                        or (y > 0 and heat[y - 1, x] > value)
                        or (y < last_y and heat[y + 1, x] > value)
                    ):
                        continue  # the case of most pixels
                    if (
                        witness_y >= 0
                        and abs(witness_y - y) <= reach
                        and abs(witness_x - x) <= reach
                        and heat[witness_y, witness_x] > value
                    ):
                        continue
                    # Along a plateau, each window adds one column to the previous window.
                    left = x + reach if accepted == x - 1 and heat[y, x - 1] == value else x - reach
                    higher = _higher_pixel(heat, y, left, x + reach, reach, value)
                    if higher >= 0:
                        witness_y, witness_x = higher // heat.shape[1], higher % heat.shape[1]
                        continue
                    accepted = x
                    if found < len(peaks):
                        points[found, 0], points[found, 1], peaks[found] = y, x, value
                    found += 1
    return found


@jit
def _higher_pixel(heat: Floats, y: int, left: int, right: int, reach: int, value: np.float32) -> int:
    """Return the raster index of a pixel above ``value`` among columns left..right of rows y +- reach."""
    height, width = heat.shape
    left, right = max(left, 0), min(right, width - 1)
    for step in range(reach + 1):  # from the middle outwards: a higher pixel is usually close
        for row in (y - step, y + step):
            if 0 <= row < height:
                for x in range(left, right + 1):
                    if heat[row, x] > value:
                        return int(row * width + x)
    return -1


@jit
def _mark_first(points: Ints, reach: int, is_first: Flags) -> None:
    """Mark each centre for which no earlier one in raster order lies within ``reach`` rows and columns."""
    for i in range(len(points)):
        is_first[i] = True
        j = i - 1
        while j >= 0 and points[i, 0] - points[j, 0] <= reach:
            if abs(points[i, 1] - points[j, 1]) <= reach:
                is_first[i] = False
                break
            j -= 1
