"""Bilinear enlargement of many planes on the processor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panscape.kernels.bilinear import Axis
from panscape.kernels.compiling import compiled

Floats = NDArray[np.float32]


@compiled
def enlarge_planes(planes: Floats, rows: Axis, columns: Axis, out: Floats) -> None:
    """Do to planes [N, h, w] what :func:`panscape.kernels.bilinear.enlarge` does, a row of cells at a time.

    Args:
        planes: float32 [N, h, w].
        rows: cells of the vertical axis.
        columns: cells of the horizontal axis.
        out: where the result goes, float32 [N, H, W].
    """
    top, bottom = np.empty(out.shape[2], dtype=np.float32), np.empty(out.shape[2], dtype=np.float32)
    for n in range(len(planes)):
        for s in range(len(rows.low)):
            above, below = planes[n, rows.low[s]], planes[n, rows.high[s]]
            for t in range(len(columns.low)):
                low, high = columns.low[t], columns.high[t]
                for x in range(columns.start[t], columns.start[t + 1]):
                    top[x] = columns.near[x] * above[low] + columns.far[x] * above[high]
                    bottom[x] = columns.near[x] * below[low] + columns.far[x] * below[high]
            for y in range(rows.start[s], rows.start[s + 1]):
                near, far, row = rows.near[y], rows.far[y], out[n, y]
                for x in range(len(row)):
                    row[x] = near * top[x] + far * bottom[x]
