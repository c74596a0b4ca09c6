"""Positions and weights of bilinear upsampling, as arrays; :mod:`panscape.ops.interpolate` has its definition."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Bound on the rounding error of a comparison of two interpolated values, relative to the inputs' magnitude: four
# operations of 2^-24 each for both values make 2^-21. This bound leaves some margin.
ROUNDING = np.float32(2.0**-19)

# Network outputs are clamped to this magnitude: their sums and differences are finite then, and 0 times them is 0.
LARGEST = np.float32(1e30)


def finite_array(planes: NDArray[Any], nan: float = -float(LARGEST)) -> NDArray[np.float32]:
    """Return network outputs with finite values only, C-contiguous.

    Sums of infinities can be NaN, and the result of a comparison with NaN depends on how it is written: each
    implementation of a kernel would give another map.

    Args:
        planes: float of any shape; values are clamped to +-1e30.
        nan: replacement for NaN; by default the lowest value, -1e30.
    """
    finite = np.clip(planes, -LARGEST, LARGEST, dtype=np.float32)
    return np.ascontiguousarray(np.where(np.isnan(finite), np.float32(nan), finite))


class SourceWeights(NamedTuple):
    """Source indices and weights of the outputs along one axis.

    Attributes:
        low: int32 [N], the input before (or at) the output's position.
        high: int32 [N], the input after it, at most the last one.
        fraction: float32 [N] in 0..1, the weight of ``high``; ``low`` has one minus it.
    """

    low: NDArray[np.int32]
    high: NDArray[np.int32]
    fraction: NDArray[np.float32]

    def part(self, kept: slice, first: int = 0) -> SourceWeights:
        """Return the weights of some outputs, for inputs without the first ones."""
        low, high = (index[kept] - np.int32(first) for index in self[:2])
        return SourceWeights(low, high, self.fraction[kept])


@lru_cache(maxsize=64)
def source_weights(num_inputs: int, num_outputs: int, align_corners: bool, num_kept: int) -> SourceWeights:
    """Return the sources of the first ``num_kept`` of ``num_outputs`` outputs, at the positions of torch's resize.

    Args:
        num_inputs: inputs along the axis, at least 1.
        num_outputs: outputs along the axis, at least 1.
        align_corners: whether the first and last outputs lie on the first and last inputs; otherwise pixels are areas.
        num_kept: 1..num_outputs.
    """
    index = np.arange(num_kept, dtype=np.float32)
    one, half = np.float32(1), np.float32(0.5)
    if align_corners:
        steps = max(num_outputs - 1, 1)
        position = index * (np.float32(num_inputs - 1) / np.float32(steps))
        if num_outputs == 1:
            position[:] = 0
    else:
        position = np.maximum((index + half) * (np.float32(num_inputs) / np.float32(num_outputs)) - half, np.float32(0))
    low = np.minimum(position.astype(np.int32), num_inputs - 1)
    fraction = np.clip(position - low.astype(np.float32), np.float32(0), one)
    result = SourceWeights(low, np.minimum(low + 1, num_inputs - 1).astype(np.int32), fraction)
    for part in result:
        part.setflags(write=False)  # the cache returns the same arrays to every caller
    return result


class Axis(NamedTuple):
    """Sources of one axis by cell: outputs ``start[t]`` to ``start[t + 1]`` lie between the same two inputs.

    Attributes:
        start: int32 [T + 1].
        low: int32 [T], the input before.
        high: int32 [T], the input after.
        near: float32 [N], the weight of ``low`` for each output.
        far: float32 [N], the weight of ``high``.
    """

    start: NDArray[np.int32]
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    near: NDArray[np.float32]
    far: NDArray[np.float32]


@lru_cache(maxsize=64)
def cell_table(num_inputs: int, num_outputs: int, align_corners: bool, num_kept: int) -> Axis:
    """Return the cells of one axis; arguments as for :func:`source_weights`."""
    return cells_of(source_weights(num_inputs, num_outputs, align_corners, num_kept))


def cells_of(weights: SourceWeights) -> Axis:
    """Return the cells of the outputs with these sources, in ascending order."""
    low, high, fraction = weights
    first = np.flatnonzero(np.diff(low, prepend=-1))
    start = np.append(first, len(low)).astype(np.int32)
    return Axis(start, low[first], high[first], np.float32(1) - fraction, fraction.copy())
