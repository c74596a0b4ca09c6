"""Category names on segments: legible, without overlap, inside the image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from panscape.labels import LabelSpace
from panscape.visualize.palette import segment_colors

if TYPE_CHECKING:
    from panscape.panoptic import PanopticMap

_Box = tuple[int, int, int, int]  # left, top, right, bottom; half-open
_MAX_NAMES = 250  # more are not legible on any image


def draw_names(pixels: NDArray[np.uint8], result: PanopticMap, labels: LabelSpace) -> NDArray[np.uint8]:
    """Return pixels, uint8 [H, W, 3], with names: largest segments first, without overlap, inside the image."""
    size = text_size(*pixels.shape[:2])
    font = load_font(size)
    areas = result.areas().cpu().numpy()
    colors = segment_colors(result, labels)
    anchors = _anchors(result)
    boxes = result.boxes().cpu().numpy().astype(int)
    canvas = Image.fromarray(pixels)
    pen = ImageDraw.Draw(canvas)
    taken: list[_Box] = []
    for row in np.argsort(-areas, kind="stable")[:_MAX_NAMES]:
        if areas[row] < (1.5 * size) ** 2:
            break
        if int(row) not in anchors:  # a thin segment may be absent in the downsampled map, whatever its area
            continue
        text = _name(result, labels, int(row))
        width = math.ceil(pen.textlength(text, font=font)) + size
        height = round(1.5 * size)
        # Stuff often has several components: a name beside their common box would lie on other segments.
        box = boxes[row] if labels[int(result.category[row])].is_thing else None
        if box is None and areas[row] < 2 * height * width:
            continue
        place = _place((height, width), anchors[int(row)], box, pixels.shape[:2], taken)
        if place is None:
            continue
        taken.append(place)
        left, top, right, bottom = place
        fill = tuple(int(v) for v in colors[row])
        is_light = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 140
        ink = (15, 15, 20) if is_light else (255, 255, 255)
        pen.rounded_rectangle(
            (left, top, right - 1, bottom - 1), radius=height // 3, fill=fill, outline=ink, width=max(1, size // 14)
        )
        pen.text(((left + right) / 2, (top + bottom) / 2), text, fill=ink, font=font, anchor="mm")
    return np.array(canvas)


def _name(result: PanopticMap, labels: LabelSpace, row: int) -> str:
    text = labels[int(result.category[row])].name
    if result.crowd is not None and bool(result.crowd[row]):
        text += " (crowd)"
    if result.score is not None and labels[int(result.category[row])].is_thing:  # stuff has no instance score
        text += f" {float(result.score[row]):.2f}"
    return text


def _place(
    label: tuple[int, int],
    anchor: tuple[int, int],
    box: Sequence[int] | None,
    image: Sequence[int],
    taken: Iterable[_Box],
) -> _Box | None:
    """Return a free position for a label of ``(height, width)``, or None.

    It is inside the segment around ``anchor`` (y, x), or just above or below its ``box`` if the label would hide it.
    """
    height, width = label
    if height > image[0] or width > image[1]:
        return None
    y, x = anchor
    if box is None or (box[3] - box[1] >= 2.5 * height and box[2] - box[0] >= 1.2 * width):
        centers = [(y, x), (y - height, x), (y + height, x), (y, x - width // 2), (y, x + width // 2)]
    else:
        middle = (box[0] + box[2]) // 2
        centers = [(box[1] - height // 2 - 1, middle), (box[3] + height // 2 + 1, middle)]
    for center_y, center_x in centers:
        start_x = min(max(center_x - width // 2, 0), image[1] - width)
        start_y = min(max(center_y - height // 2, 0), image[0] - height)
        place = (start_x, start_y, start_x + width, start_y + height)
        if not any(_overlap(place, other) for other in taken):
            return place
    return None


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _anchors(result: PanopticMap) -> Mapping[int, tuple[int, int]]:
    """Return an interior point (y, x) of every segment in a downsampled map, by row."""
    height, width = result.size
    step = max(1, max(height, width) // 256)
    ids = result.ids.cpu().numpy()[step // 2 :: step, step // 2 :: step]
    depth = np.zeros(ids.shape, np.int32)
    # Repeated erosion: the depth of a pixel is the number of erosions that it survives.
    alive = np.pad(ids, 1, constant_values=-1)
    while True:
        core = alive[1:-1, 1:-1]
        same = core > 0
        for neighbour in (alive[:-2, 1:-1], alive[2:, 1:-1], alive[1:-1, :-2], alive[1:-1, 2:]):
            same &= neighbour == core
        if not same.any():
            break
        depth += same
        alive[1:-1, 1:-1] = np.where(same, core, -1)
    flat = ids.ravel()
    order = np.lexsort((depth.ravel(), flat))
    last = np.flatnonzero(np.diff(flat[order], append=-1))
    deepest = order[last]
    return {
        int(flat[i]) - 1: (int(i // ids.shape[1]) * step + step // 2, int(i % ids.shape[1]) * step + step // 2)
        for i in deepest
        if flat[i] > 0
    }


def text_size(height: int, width: int) -> int:
    """Return a legible text size in pixels for an image of this size."""
    return max(10, round(max(height, width) / 95))


@cache
def load_font(size: int) -> Any:
    """Return the font of names and titles."""
    return ImageFont.load_default(size)  # Pillow's bundled outline font: the same result on every machine
