"""Runs of equal pixels in row-major order: id images have a hundred times fewer runs than pixels.

A run continues in the next row. Ends of runs are found in blocks that fit into the cache: pixels are compared in
vectors, and few branches depend on them, so this takes little longer than reading the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit

BLOCK = 4096
"""Number of pixels that are compared at once."""


def run_ends(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position after the last pixel of each run, int64 [R], ascending; empty if there are no pixels.

    Args:
        pixels: integers [H, W], or uint8 [H, W, 3].
    """
    if pixels.size == 0:
        return np.empty(0, np.int64)
    flat = np.ascontiguousarray(pixels).reshape(-1)
    return _ends_of_rgb(flat) if pixels.ndim == 3 else _ends(flat)


def fill_runs(ends: NDArray[np.int64], values: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.int32]:
    """Return an image of runs, int32 [H, W].

    Args:
        ends: of :func:`run_ends`.
        values: int32 [R], the value of each run.
        size: height and width.
    """
    image = np.empty(size, np.int32)
    _fill(ends, values, image.reshape(-1))
    return image


def run_extents(
    ends: NDArray[np.int64], segment: NDArray[Any], width: int, num_segments: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return area and box of each segment: int64 [S], and int64 [S, 4], xyxy, half-open; zeros if it is empty.

    Args:
        ends: of :func:`run_ends`.
        segment: integers [R] in 0..S - 1, the segment of each run.
        width: of the image.
        num_segments: S.
    """
    areas, boxes = np.zeros(num_segments, np.int64), np.zeros((num_segments, 4), np.int64)
    _extents(ends, segment.astype(np.int64, copy=False), width, areas, boxes)
    return areas, boxes


@jit
def next_ends(
    first: NDArray[Any], second: NDArray[Any], begin: int, words: NDArray[np.uint64], ends: NDArray[np.int64]
) -> int:
    """Find the ends of runs in which two arrays [N] are both constant, in the block from ``begin`` on.

    Blocks begin at 1, 1 + :data:`BLOCK` and so on up to N; the last one ends with N.

    Args:
        first: values of one type [N].
        second: likewise; may be ``first``.
        begin: of the block.
        words: uint64 [BLOCK / 8], scratch.
        ends: receives the ends; at least BLOCK + 8 long, and no longer than needed is changed.

    Returns:
        The number of ends.
    """
    stop = min(begin + BLOCK, first.size)
    marks = words.view(np.uint8)
    # Slices of equal length: the compiler makes no vectors of indices that could be negative.
    a, a_before = first[begin:stop], first[begin - 1 : stop - 1]
    b, b_before = second[begin:stop], second[begin - 1 : stop - 1]
    for i in range(stop - begin):
        marks[i] = np.uint8(a[i] != a_before[i]) | np.uint8(b[i] != b_before[i])
    return _close(words, begin, stop, ends)


@jit
def _close(words: NDArray[np.uint64], begin: int, stop: int, ends: NDArray[np.int64]) -> int:
    """Turn the marks of a block, which ends the array if it is short, into ends."""
    words.view(np.uint8)[stop - begin :] = 0
    count = marked(words, begin, ends)
    if stop - begin < BLOCK:
        ends[count] = stop
        count += 1
    return count


@jit
def marked(words: NDArray[np.uint64], begin: int, found: NDArray[np.int64]) -> int:
    """Find the bytes that are not 0, without branches that depend on them.

    Args:
        words: uint64 [N], 8 bytes each.
        begin: is added to the positions.
        found: receives the positions, ascending; has 8 elements more than there are positions.

    Returns:
        The number of positions.
    """
    marks = words.view(np.uint8)
    busy = np.empty(words.size, np.int64)
    num_busy = 0
    for word in range(words.size):
        busy[num_busy] = word
        num_busy += words[word] != 0
    count = 0
    for k in range(num_busy):
        for place in range(8 * busy[k], 8 * busy[k] + 8):
            found[count] = begin + place
            count += marks[place] != 0
    return count


@jit
def _ends(flat: NDArray[Any]) -> NDArray[np.int64]:
    words = np.empty(BLOCK // 8, np.uint64)
    ends = np.empty(flat.size + BLOCK + 8, np.int64)  # memory that is not touched costs nothing
    num_runs = 0
    for begin in range(1, flat.size + 1, BLOCK):
        num_runs += next_ends(flat, flat, begin, words, ends[num_runs:])
    return ends[:num_runs].copy()


@jit
def _ends_of_rgb(flat: NDArray[np.uint8]) -> NDArray[np.int64]:
    num_pixels = flat.size // 3
    words = np.empty(BLOCK // 8, np.uint64)
    marks = words.view(np.uint8)
    ends = np.empty(num_pixels + BLOCK + 8, np.int64)
    num_runs = 0
    for begin in range(1, num_pixels + 1, BLOCK):
        stop = min(begin + BLOCK, num_pixels)
        now, before = flat[3 * begin : 3 * stop], flat[3 * (begin - 1) : 3 * (stop - 1)]
        for i in range(stop - begin):
            j = 3 * i
            marks[i] = (now[j] ^ before[j]) | (now[j + 1] ^ before[j + 1]) | (now[j + 2] ^ before[j + 2])
        num_runs += _close(words, begin, stop, ends[num_runs:])
    return ends[:num_runs].copy()


@jit
def _fill(ends: NDArray[np.int64], values: NDArray[np.int32], flat: NDArray[np.int32]) -> None:
    start = 0
    for run in range(ends.size):
        part = flat[start : ends[run]]
        value = values[run]
        for i in range(part.size):
            part[i] = value
        start = ends[run]


@jit
def _extents(
    ends: NDArray[np.int64],
    segment: NDArray[np.int64],
    width: int,
    areas: NDArray[np.int64],
    boxes: NDArray[np.int64],
) -> None:
    start = 0
    for run in range(ends.size):
        stop = ends[run]
        top, bottom = start // width, (stop - 1) // width
        left, right = start - top * width, stop - bottom * width
        if top != bottom:  # it has the last pixel of a row and the first of the next
            left, right = 0, width
        row = segment[run]
        if areas[row] == 0:
            boxes[row] = (left, top, right, bottom + 1)
        else:
            boxes[row, 0] = min(boxes[row, 0], left)
            boxes[row, 1] = min(boxes[row, 1], top)
            boxes[row, 2] = max(boxes[row, 2], right)
            boxes[row, 3] = max(boxes[row, 3], bottom + 1)
        areas[row] += stop - start
        start = stop
