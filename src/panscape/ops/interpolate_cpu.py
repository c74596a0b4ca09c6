"""Compiled bilinear upsampling of many planes on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit
from panscape.ops.source_weights import Axis, cell_table

Floats = NDArray[np.float32]


def upsample_cpu(planes: Floats, padded_size: tuple[int, int], size: tuple[int, int], align_corners: bool) -> Floats:
    """Upsample planes; arguments and result are those of :func:`panscape.ops.interpolate.upsample`, bit for bit.

    Args:
        planes: float32 [..., h, w].
        padded_size: height and width of the whole result.
        size: height and width of the part that is computed.
        align_corners: as in :func:`panscape.ops.source_weights.source_weights`.

    Returns:
        float32 [..., size].
    """
    *axes, height, width = planes.shape
    rows = cell_table(height, padded_size[0], align_corners, size[0])
    columns = cell_table(width, padded_size[1], align_corners, size[1])
    result = np.empty((*axes, *size), dtype=np.float32)
    upsample_planes(np.ascontiguousarray(planes).reshape(-1, height, width), rows, columns, result.reshape(-1, *size))
    return result


@jit
def upsample_planes(planes: Floats, rows: Axis, columns: Axis, out: Floats) -> None:
    """Upsample planes [N, h, w] as :func:`panscape.ops.interpolate.upsample` does, one row of cells at a time.

    Args:
        planes: float32 [N, h, w].
        rows: cells of the vertical axis.
        columns: cells of the horizontal axis.
        out: output, float32 [N, H, W].
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
