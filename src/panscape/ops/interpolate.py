"""Bilinear upsampling with a fixed order of operations, so that all implementations here agree bit for bit.

The published implementations upsample network outputs with the framework's own resize, whose rounding differs between
processors and releases. Here every output value is, in float32 and rounded after each operation,

    top    = (1 - u) * in[y0, x0] + u * in[y0, x1]
    bottom = (1 - u) * in[y1, x0] + u * in[y1, x1]
    out    = (1 - v) * top + v * bottom

with the positions and fractions of :func:`source_weights`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from panscape.ops.interpolate_cpu import upsample_cpu
from panscape.ops.source_weights import LARGEST, SourceWeights, source_weights


def finite_values(planes: Tensor, nan: float = -float(LARGEST)) -> Tensor:
    """Return network outputs as float32 with finite values only: :func:`~panscape.ops.source_weights.finite_array`.

    Args:
        planes: of any shape; values are clamped to +-1e30.
        nan: replacement for NaN; by default the lowest value, -1e30.
    """
    return planes.detach().float().nan_to_num(nan=nan).clamp(-float(LARGEST), float(LARGEST))


class TensorWeights(NamedTuple):
    """:class:`SourceWeights` on a device, as int64 [N], int64 [N] and float32 [N]."""

    low: Tensor
    high: Tensor
    fraction: Tensor

    @classmethod
    def of(cls, weights: SourceWeights, device: torch.device) -> TensorWeights:
        """Copy the weights to a device."""
        low, high = (torch.tensor(index, device=device).long() for index in weights[:2])
        return cls(low, high, torch.tensor(weights.fraction, device=device))

    def part(self, kept: slice, first: int = 0) -> TensorWeights:
        """Return the weights of some outputs, for inputs without the first ones."""
        return TensorWeights(self.low[kept] - first, self.high[kept] - first, self.fraction[kept])


def upsample(planes: Tensor, padded_size: tuple[int, int], size: tuple[int, int], align_corners: bool) -> Tensor:
    """Upsample ``planes`` to ``padded_size`` and keep the top left ``size`` of it.

    Args:
        planes: float32 [..., h, w].
        padded_size: height and width of the whole result.
        size: height and width of the part that is computed.
        align_corners: as in :func:`source_weights`.

    Returns:
        float32 [..., size].
    """
    rows = source_weights(planes.shape[-2], padded_size[0], align_corners, size[0])
    columns = source_weights(planes.shape[-1], padded_size[1], align_corners, size[1])
    return resample(planes, TensorWeights.of(rows, planes.device), TensorWeights.of(columns, planes.device))


def upsampled(planes: Tensor, padded_size: tuple[int, int], size: tuple[int, int], align_corners: bool) -> Tensor:
    """Upsample many planes as fast as possible; bit-identical to :func:`upsample`, which has the arguments.

    On a device, planes are upsampled one by one, as intermediate results would be several times as large.
    """
    if planes.device.type == "cpu":
        return torch.from_numpy(upsample_cpu(planes.numpy(), padded_size, size, align_corners))
    result = planes.new_empty(*planes.shape[:-2], *size)
    flat, places = planes.reshape(-1, *planes.shape[-2:]), result.view(-1, *size)
    for plane, place in zip(flat, places, strict=True):
        place.copy_(upsample(plane, padded_size, size, align_corners))
    return result


def resample(planes: Tensor, rows: TensorWeights, columns: TensorWeights) -> Tensor:
    """Interpolate ``planes``, float32 [..., h, w], at the positions of these weights; float32 [..., H, W]."""
    u = columns.fraction
    wide = (1 - u) * planes[..., columns.low]
    wide += u * planes[..., columns.high]
    v = rows.fraction[:, None]
    out = (1 - v) * wide[..., rows.low, :]
    out += v * wide[..., rows.high, :]
    return out
