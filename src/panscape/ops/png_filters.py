"""The filters of PNG: each row of bytes is stored as the difference to a prediction from bytes to the left and above.

In id images most differences are 0, and a pixel between equal ones equals the one to its left.

Source: the PNG specification, https://www.w3.org/TR/png-3/, section "Filtering".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit
from panscape.ops.runs import marked

_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)


def unfilter(filtered: NDArray[np.uint8], height: int, pixel: int) -> NDArray[np.uint8] | None:
    """Return the bytes of the rows of a PNG, uint8 [H, N]; None if a row has an unknown filter.

    Args:
        filtered: uint8 [H * (1 + N)], of each row the number of its filter and N bytes.
        height: H, at least 1.
        pixel: number of bytes of a pixel, of which N is a multiple.
    """
    rows = filtered.reshape(height, -1)
    found = np.empty((height, rows.shape[1] - 1), np.uint8)
    return found if _unfilter(rows, found, pixel) else None


@jit
def _unfilter(rows: NDArray[np.uint8], found: NDArray[np.uint8], pixel: int) -> bool:
    num_bytes = found.shape[1]
    words = np.zeros((num_bytes + 7) // 8, np.uint64)
    places = np.empty(num_bytes + 8, np.int64)
    above = np.zeros(num_bytes, np.uint8)
    for y in range(found.shape[0]):
        kind, row, out = rows[y, 0], rows[y, 1:], found[y]
        if kind == _NONE:
            out[:] = row
        elif kind == _UP:
            for i in range(num_bytes):
                out[i] = row[i] + above[i]
        elif kind in (_SUB, _PAETH):
            _mark_unpredicted(row, above, pixel, kind == _PAETH, words)
            _from_left(row, above, pixel, kind == _PAETH, places[: marked(words, 0, places)], out)
        elif kind == _AVERAGE:
            for i in range(num_bytes):
                before = np.int64(out[i - pixel]) if i >= pixel else np.int64(0)
                out[i] = row[i] + np.uint8((before + np.int64(above[i])) >> 1)
        else:
            return False
        above = out
    return True


@jit
def _mark_unpredicted(
    row: NDArray[np.uint8], above: NDArray[np.uint8], pixel: int, is_paeth: bool, words: NDArray[np.uint64]
) -> None:
    """Mark the bytes that need not equal those of the pixel to the left; all of the first pixel."""
    marks = words.view(np.uint8)
    marks[:pixel] = 1
    # Slices of equal length: the compiler makes no vectors of indices that could be negative.
    target, difference = marks[pixel : row.size], row[pixel:]
    if is_paeth:  # its prediction is the left one where those above are equal
        up, left_up = above[pixel:], above[: row.size - pixel]
        for i in range(target.size):
            target[i] = difference[i] | (up[i] ^ left_up[i])
    else:
        target[:] = difference


@jit
def _from_left(
    row: NDArray[np.uint8],
    above: NDArray[np.uint8],
    pixel: int,
    is_paeth: bool,
    places: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    """Reverse the filters Sub and Paeth, given the ``places`` of marked bytes."""
    done = 0
    for place in places:
        if place < done:  # another byte of the pixel
            continue
        start = place // pixel * pixel
        _repeat(out, above, done, start, pixel, is_paeth)
        done = start + pixel
        for i in range(start, done):
            left = np.int64(out[i - pixel]) if i >= pixel else np.int64(0)
            if is_paeth:
                left_above = np.int64(above[i - pixel]) if i >= pixel else np.int64(0)
                left = _paeth(left, np.int64(above[i]), left_above)
            out[i] = row[i] + np.uint8(left)
    _repeat(out, above, done, out.size, pixel, is_paeth)


@jit
def _repeat(
    out: NDArray[np.uint8], above: NDArray[np.uint8], start: int, stop: int, pixel: int, is_constant_above: bool
) -> None:
    """Fill bytes with the pixel to the left of ``start``; from above if those are the same, as that is faster."""
    if start == stop:
        return
    is_same = is_constant_above
    for i in range(start - pixel, start):
        is_same &= out[i] == above[i]
    if is_same:
        out[start:stop] = above[start:stop]
        return
    for channel in range(start, start + pixel):
        value = out[channel - pixel]
        for i in range(channel, stop, pixel):
            out[i] = value


@jit
def _paeth(left: np.int64, above: np.int64, left_above: np.int64) -> np.int64:
    to_left, to_above = abs(above - left_above), abs(left - left_above)
    to_left_above = abs(left + above - 2 * left_above)
    if to_left <= to_above and to_left <= to_left_above:
        return left
    return above if to_above <= to_left_above else left_above
