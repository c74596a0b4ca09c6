"""Category names on segments: legible, without overlap, inside the image, and without hiding what they name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.ops.jit import jit
from panscape.visualize.blend import Pixels
from panscape.visualize.oklab import Colors
from panscape.visualize.text import ink_on, load_font, text_size

Names = Literal["none", "category", "segment"]
"""What is named in an overlay: nothing, each category once, or each segment with its score."""

_Box = tuple[int, int, int, int]  # left, top, right, bottom; half-open
_MAX_NAMES = 250  # more are not legible on any image
_MAX_TRIES = 12  # segments of a category on which its name is tried
_MAX_COVERED = 0.3  # share of any segment that all names together may hide


def draw_names(pixels: Pixels, result: MapArrays, labels: LabelSpace, colors: Colors, names: Names) -> None:
    """Write names into pixels: largest segments first, without overlap, inside the image.

    No name is written where names would hide more than 30 % of any segment.

    Args:
        pixels: uint8 [H, W, 3], changed in place.
        result: a map of this size.
        labels: label space of the map.
        colors: color of each segment, uint8 [S, 3].
        names: "category" writes one name for each category, on a large segment, with the number of things; "segment"
            one for each segment, with the score of things.
    """
    size = text_size(*pixels.shape[:2])
    areas, boxes = result.extents()
    layout = _Layout(result, areas, boxes, labels, size)
    for text, rows in _texts(result, areas, labels, names):
        found = layout.place(_label_size(text, size), rows)
        if found is not None:
            row, box = found
            _write_label(pixels, box, text, size, tuple(colors[row].tolist()))


def _write_label(pixels: Pixels, box: _Box, text: str, size: int, color: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    label, is_label = _draw_label(text, size, color)
    pixels[top:bottom, left:right][is_label] = label[is_label]


@lru_cache(maxsize=256)
def _label_size(text: str, size: int) -> tuple[int, int]:
    """Return height and width of the label of a text."""
    return round(1.5 * size), math.ceil(load_font(size).getlength(text)) + size


@lru_cache(maxsize=256)
def _draw_label(text: str, size: int, color: tuple[int, ...]) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return the label of a text, uint8 [h, w, 3], and its pixels: all but the corners, bool [h, w]."""
    height, width = _label_size(text, size)
    ink, line = ink_on(color), max(1, size // 16)
    label, is_label = Image.new("RGB", (width, height)), Image.new("1", (width, height))
    for canvas, fill, outline in ((label, color, ink), (is_label, 1, 1)):
        pen = ImageDraw.Draw(canvas)
        box = (0, 0, width - 1, height - 1)
        pen.rounded_rectangle(box, radius=size // 2, fill=fill, outline=outline, width=line)
    ImageDraw.Draw(label).text((width / 2, height / 2), text, fill=ink, font=load_font(size), anchor="mm")
    return np.array(label), np.array(is_label)


def _texts(
    result: MapArrays, areas: NDArray[np.int64], labels: LabelSpace, names: Names
) -> Iterator[tuple[str, list[int]]]:
    """Return each text with the rows of the segments it may be written on, by descending area."""
    category = result.category.tolist()
    rows = np.argsort(-areas, kind="stable").tolist()
    if names == "segment":
        for row in rows[:_MAX_NAMES]:
            yield _name(result, labels, row), [row]
        return
    counts = Counter(category)
    for one in dict.fromkeys(category[row] for row in rows):
        text = labels[one].name + (f" ({counts[one]})" if labels[one].is_thing and counts[one] > 1 else "")
        yield text, [row for row in rows if category[row] == one][:_MAX_TRIES]


def _name(result: MapArrays, labels: LabelSpace, row: int) -> str:
    text = labels[int(result.category[row])].name
    if result.crowd is not None and bool(result.crowd[row]):
        text += " (crowd)"
    if result.score is not None and labels[int(result.category[row])].is_thing:  # stuff has no instance score
        text += f" {float(result.score[row]):.2f}"
    return text


class _Layout:
    """Positions of labels on a map."""

    def __init__(
        self,
        result: MapArrays,
        areas: NDArray[np.int64],
        boxes: NDArray[np.int64],
        labels: LabelSpace,
        text_size: int,
    ) -> None:
        self._ids = result.ids
        self._areas = areas
        self._boxes = boxes
        self._is_thing = [labels[c].is_thing for c in result.category.tolist()]
        self._anchors = _anchors(self._ids)
        self._smallest = text_size**2
        self._hidden = np.zeros(len(self._areas), np.int64)  # pixels of each segment under labels
        self._taken: list[_Box] = []

    def place(self, label: tuple[int, int], rows: Sequence[int]) -> tuple[int, _Box] | None:
        """Reserve a free position for a label of ``(height, width)`` on one of some segments; None if there is none.

        Returns:
            The row of the segment and the position.
        """
        for row in rows:
            # A thin segment may be absent in the downsampled map, whatever its area.
            smallest = self._smallest if self._is_thing[row] else 2 * label[0] * label[1]
            if self._areas[row] < smallest or row not in self._anchors:
                continue
            for place in self._candidates(label, row):
                if any(_overlap(place, other) for other in self._taken):
                    continue
                left, top, right, bottom = place
                under = np.bincount(self._ids[top:bottom, left:right].ravel(), minlength=len(self._areas) + 1)[1:]
                if np.any((self._hidden + under)[under > 0] > _MAX_COVERED * self._areas[under > 0]):
                    continue
                self._hidden += under
                self._taken.append(place)
                return row, place
        return None

    def _candidates(self, label: tuple[int, int], row: int) -> Iterator[_Box]:
        """Return positions inside the segment around its anchor, or beside its box if the label is too large for it."""
        height, width = label
        rows, columns = self._ids.shape
        if height > rows or width > columns:
            return
        y, x = self._anchors[row]
        left, top, right, bottom = self._boxes[row].tolist()
        is_large = bottom - top >= 2.5 * height and right - left >= 1.2 * width
        # Stuff often has several components: a name beside their common box would lie on other segments.
        if is_large or not self._is_thing[row]:
            centers = [(y, x), (y - height, x), (y + height, x), (y, x - width // 2), (y, x + width // 2)]
        else:
            middle = (left + right) // 2
            above, below = top - height // 2 - 1, bottom + height // 2 + 1
            centers = [(above, middle), (below, middle), (above, right), (above, left), (below, right), (below, left)]
        for center_y, center_x in centers:
            start_x = min(max(center_x - width // 2, 0), columns - width)
            start_y = min(max(center_y - height // 2, 0), rows - height)
            yield start_x, start_y, start_x + width, start_y + height


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _anchors(ids: NDArray[np.int32]) -> Mapping[int, tuple[int, int]]:
    """Return an interior point (y, x) of every segment in a downsampled map, by row."""
    rows, columns = (max(1, length // 256) for length in ids.shape)
    ids = ids[rows // 2 :: rows, columns // 2 :: columns]
    inside = _deepest(np.ascontiguousarray(ids))
    return {
        value - 1: (at // ids.shape[1] * rows + rows // 2, at % ids.shape[1] * columns + columns // 2)
        for value, at in enumerate(inside.tolist())
        if value > 0 and at >= 0
    }


@jit
def _deepest(ids: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return for each id the index, in the flattened map, of the pixel farthest from other ids and the outside.

    The distance is the number of steps to a neighbouring row or column (city block), in two passes as of Rosenfeld and
    Pfaltz, "Sequential operations in digital picture processing", 1966. Of several such pixels, the last one; -1 if the
    map does not contain the id.
    """
    height, width = ids.shape
    depth = np.ones((height, width), np.int32)
    for y in range(1, height):
        for x in range(1, width):
            above = depth[y - 1, x] if ids[y - 1, x] == ids[y, x] else 0
            before = depth[y, x - 1] if ids[y, x - 1] == ids[y, x] else 0
            depth[y, x] = 1 + min(above, before)
    largest = ids.max() + 1 if ids.size else 0
    best, found = np.zeros(largest, np.int32), np.full(largest, -1)
    for y in range(height - 1, -1, -1):
        for x in range(width - 1, -1, -1):
            below = depth[y + 1, x] if y + 1 < height and ids[y + 1, x] == ids[y, x] else 0
            after = depth[y, x + 1] if x + 1 < width and ids[y, x + 1] == ids[y, x] else 0
            depth[y, x] = min(depth[y, x], 1 + min(below, after))
            value = ids[y, x]
            if depth[y, x] > best[value]:
                best[value], found[value] = depth[y, x], y * width + x
    return found
