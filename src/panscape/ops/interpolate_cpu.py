"""Compiled bilinear upsampling of many planes on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from panscape.ops.interpolate import upsample
from panscape.ops.jit import jit
from panscape.ops.source_weights import Axis, cell_table

Floats = NDArray[np.float32]


def upsampled(planes: Tensor, padded_size: tuple[int, int], size: tuple[int, int], align_corners: bool) -> Tensor:
    """Upsample many planes as fast as possible; bit-identical to :func:`panscape.ops.interpolate.upsample`.

    On a device, planes are upsampled one by one, as intermediate results would be several times as large.

    Args:
        planes: float32 [..., h, w].
        padded_size: height and width of the whole result.
        size: height and width of the part that is computed.
        align_corners: as in :func:`panscape.ops.interpolate.source_weights`.

    Returns:
        float32 [..., size].
    """
    result = planes.new_empty(*planes.shape[:-2], *size)
    flat, places = planes.reshape(-1, *planes.shape[-2:]), result.view(-1, *size)
    if planes.device.type == "cpu":
        rows = cell_table(planes.shape[-2], padded_size[0], align_corners, size[0])
        columns = cell_table(planes.shape[-1], padded_size[1], align_corners, size[1])
        upsample_planes(flat.contiguous().numpy(), rows, columns, places.numpy())
        return result
    for plane, place in zip(flat, places, strict=True):
        place.copy_(upsample(plane, padded_size, size, align_corners))
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
