"""Several images on one sheet, and legends of colors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.visualize.legend import append_entries
from panscape.visualize.pixels import to_pixels, to_tensor
from panscape.visualize.text import load_font, text_size


def make_grid(images: Sequence[Tensor], titles: Sequence[str] = (), *, columns: int | None = None) -> Tensor:
    """Arrange images in a grid, each below its title.

    Args:
        images: uint8 [3, H, W] each; images smaller than the largest are centered in their cell.
        titles: one for each image, or none.
        columns: images per row; by default all of them.

    Raises:
        InvalidArgumentError: no image, an image of another type, ``columns`` below 1, or another number of titles than
            images.
    """
    if not images:
        raise InvalidArgumentError("expected at least one image, got none")
    if titles and len(titles) != len(images):
        raise InvalidArgumentError(f"expected {len(images)} titles, one for each image, got {len(titles)}")
    if columns is not None and columns < 1:
        raise InvalidArgumentError(f"expected at least one column, got {columns}")
    cells = [to_pixels(p) for p in images]
    height, width = (max(c.shape[axis] for c in cells) for axis in (0, 1))
    columns = min(columns or len(cells), len(cells))
    rows = -(-len(cells) // columns)
    size = round(1.35 * text_size(height, width))  # a grid is viewed at a smaller scale than one image
    gap = max(4, size // 2)
    head = 2 * size if titles else 0

    sheet_height, sheet_width = rows * (head + height + gap) + gap, columns * (width + gap) + gap
    sheet = np.full((sheet_height, sheet_width, 3), 246, np.uint8)
    corners = []
    for i, cell in enumerate(cells):
        top, left = gap + (i // columns) * (head + height + gap), gap + (i % columns) * (width + gap)
        corners.append((left, top))
        y, x = top + head + (height - cell.shape[0]) // 2, left + (width - cell.shape[1]) // 2
        sheet[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
    if not titles:
        return to_tensor(sheet)
    canvas = Image.fromarray(sheet)
    pen, font = ImageDraw.Draw(canvas), load_font(size)
    for (left, top), title in zip(corners, titles, strict=True):
        shown = title
        while len(shown) > 1 and pen.textlength(shown, font=font) > width:
            shown = shown[:-2].rstrip() + "…"
        pen.text((left + 1, top + head // 2), shown, fill=(40, 44, 52), font=font, anchor="lm")
    return to_tensor(np.array(canvas))


def append_colors(image: Tensor, colors: Mapping[str, Sequence[int]]) -> Tensor:
    """Return an image with a legend of colors below.

    Args:
        image: uint8 [3, H, W].
        colors: red, green and blue, 0..255, by text.

    Returns:
        uint8 [3, H + h, W]; the image alone if it is too narrow for a legend.
    """
    return to_tensor(append_entries(to_pixels(image), colors))
