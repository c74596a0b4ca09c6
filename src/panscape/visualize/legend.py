"""A legend below an image: of an overlay, the categories with their colors, and void; of lines, what they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.visualize.blend import Pixels
from panscape.visualize.palette import Palette, category_colors
from panscape.visualize.text import load_font, text_size
from panscape.visualize.void import hatch

_GROUND, _INK = 255, (30, 34, 42)
_MIN_COLUMNS = 10  # width of the smallest legend, in text sizes


def append_legend(pixels: Pixels, result: MapArrays, labels: LabelSpace, palette: Palette, void: str) -> Pixels:
    """Return pixels with a legend below: things, then stuff, each by descending area, with the number of things.

    Args:
        pixels: uint8 [H, W, 3].
        result: a map of this size.
        labels: label space of the map.
        palette: palette of the colors.
        void: text for void, which is in the legend if the map has void pixels.

    Returns:
        uint8 [H + h, W, 3]; the pixels alone if the map is empty or the image too narrow for a legend.
    """
    return _append(pixels, _entries(result, labels, category_colors(labels, palette), void, _swatch(pixels)))


def append_entries(pixels: Pixels, colors: Mapping[str, Sequence[int]]) -> Pixels:
    """Return pixels with a legend of colors below: red, green and blue, 0..255, by text."""
    shape = _swatch(pixels)
    return _append(pixels, [(text, np.full(shape, color, np.uint8)) for text, color in colors.items()])


def _swatch(pixels: Pixels) -> tuple[int, int, int]:
    """Return the shape of an entry's sample of its color."""
    size = text_size(*pixels.shape[:2])
    return size, round(1.5 * size), 3


def _append(pixels: Pixels, entries: Sequence[tuple[str, Pixels]]) -> Pixels:
    size = text_size(*pixels.shape[:2])
    width = pixels.shape[1]
    if not entries or width < _MIN_COLUMNS * size:
        return pixels
    font, gap, line = load_font(size), size // 2, 2 * size
    places, x, y = [], gap, gap
    for text, _ in entries:
        needed = 2 * size + math.ceil(font.getlength(text)) + gap  # swatch, text
        if x > gap and x + needed > width:
            x, y = gap, y + line
        places.append((x, y))
        x += needed + gap
    strip = np.full((y + line + gap, width, 3), _GROUND, np.uint8)
    for (x, y), (_, swatch) in zip(places, entries, strict=True):
        top = y + (line - size) // 2
        strip[top : top + size, x : x + swatch.shape[1]] = swatch[:, : width - x]
    canvas = Image.fromarray(strip)
    pen = ImageDraw.Draw(canvas)
    for (x, y), (text, swatch) in zip(places, entries, strict=True):
        top = y + (line - size) // 2
        pen.rectangle((x, top, x + swatch.shape[1] - 1, top + size - 1), outline=_INK)
        pen.text((x + swatch.shape[1] + size // 2, y + line // 2), text, fill=_INK, font=font, anchor="lm")
    return np.concatenate([pixels, np.array(canvas)])


def _entries(
    result: MapArrays, labels: LabelSpace, colors: NDArray[np.uint8], void: str, shape: tuple[int, int, int]
) -> Sequence[tuple[str, Pixels]]:
    """Return texts with their swatches."""
    category, areas = result.category, result.extents()[0]
    area = np.bincount(category, weights=areas, minlength=len(labels))
    count = np.bincount(category, minlength=len(labels))
    entries = []
    for i in sorted(np.flatnonzero(count).tolist(), key=lambda i: (not labels[i].is_thing, -area[i])):
        text = labels[i].name + (f" ({count[i]})" if labels[i].is_thing and count[i] > 1 else "")
        entries.append((text, np.full(shape, colors[i], np.uint8)))
    if areas.sum() < result.size.height * result.size.width:
        swatch = np.full(shape, 150, np.uint8)
        hatch(swatch, np.ones(shape[:2], bool), shape[0], 1.0)
        entries.append((void, swatch))
    return entries
