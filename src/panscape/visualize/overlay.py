"""Visualisation of panoptic maps and network outputs, with torch, NumPy and Pillow only.

Every image is uint8 [3, H, W], red, green, blue, on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.visualize.names import draw_names, load_font, text_size
from panscape.visualize.outlines import draw_outlines
from panscape.visualize.palette import flow_color_wheel, heat_colors, segment_colors

if TYPE_CHECKING:
    from panscape.panoptic import PanopticMap

__all__ = [
    "PANEL_TITLES",
    "draw",
    "draw_heatmap",
    "draw_offsets",
    "draw_segments",
    "draw_semantic",
    "make_grid",
    "segment_colors",
]

PANEL_TITLES = {
    "semantic": "semantic segmentation",
    "centers": "centers",
    "offsets": "offset directions",
    "boxes": "boxes and offsets to their centers",
    "levels": "pyramid levels of objects",
    "masks": "instance masks",
}
"""Titles of the networks' panels, by the name that a model gives them."""

_Pixels = NDArray[np.uint8]  # [H, W, 3]
_VOID_COLOR = (0, 0, 0)


def draw(
    image: Tensor,
    result: PanopticMap,
    labels: LabelSpace,
    *,
    opacity: float = 0.5,
    outlines: bool = True,
    names: bool = True,
) -> Tensor:
    """Overlay a panoptic map on its image.

    Stuff has the color of its category, each thing its own shade of that color (see :func:`segment_colors`); void shows
    the image.

    Args:
        image: uint8 [3, H, W], red, green, blue.
        result: a map of the same height and width.
        labels: the label space of the map.
        opacity: opacity of the colors, 0 (only the image) to 1 (only the colors).
        outlines: draw lines between segments; things have a light line inside and a dark one around.
        names: write category names (and scores, if the map has them) on segments that are large enough.

    Returns:
        uint8 [3, H, W].

    Raises:
        InvalidArgumentError: the image is not uint8 [3, H, W] of the map's size, ``opacity`` is outside 0..1, or a
            segment's category is not in ``labels``.
    """
    if not 0 <= opacity <= 1:
        raise InvalidArgumentError(f"expected an opacity from 0 to 1, got {opacity}")
    pixels = _to_pixels(image)
    if tuple(image.shape[1:]) != tuple(result.size):
        raise InvalidArgumentError(
            f"expected an image of the map's size {result.size.height}x{result.size.width}, "
            f"got {image.shape[1]}x{image.shape[2]}; resize one of them"
        )
    colors = _table(segment_colors(result, labels))
    ids = result.ids.cpu().numpy()
    # 8-bit fixed point: a quarter of the time of floats, and exact at opacity 0 and 1.
    weight = np.full(len(colors), round(opacity * 256), np.uint16)
    weight[0] = 0
    share = weight[ids][..., None]
    blended = ((pixels * (256 - share) + colors[ids] * share + 128) >> 8).astype(np.uint8)
    return _finish(blended, result, labels, outlines=outlines, names=names)


def draw_segments(result: PanopticMap, labels: LabelSpace, *, outlines: bool = True, names: bool = False) -> Tensor:
    """Draw a panoptic map without its image: the colors of :func:`draw` at full opacity, void black.

    Raises:
        InvalidArgumentError: a segment's category is not in ``labels``.
    """
    pixels = _table(segment_colors(result, labels))[result.ids.cpu().numpy()]
    return _finish(pixels, result, labels, outlines=outlines, names=names)


def draw_semantic(semantic: Tensor, labels: LabelSpace) -> Tensor:
    """Draw the category of every pixel in its color.

    Args:
        semantic: integer [H, W], category ids; every other value is void and black.
        labels: the label space of the ids.

    Raises:
        InvalidArgumentError: ``semantic`` is not an integer [H, W].
    """
    if semantic.ndim != 2 or semantic.is_floating_point() or semantic.dtype == torch.bool:
        raise InvalidArgumentError(
            f"expected category ids as integers [H, W], got {semantic.dtype} {list(semantic.shape)}"
        )
    table = _table(np.array([c.color for c in labels], np.uint8))
    index = semantic.detach().cpu().long() + 1
    index[(index < 1) | (index > len(labels))] = 0
    return _to_tensor(table[index.numpy()])


def draw_heatmap(heat: Tensor, image: Tensor | None = None) -> Tensor:
    """Draw values of 0..1 from black over violet, red and yellow to white.

    Args:
        heat: float [H, W]; values are clipped to 0..1, NaN is drawn as 0.
        image: uint8 [3, H, W]; the heatmap is then overlaid on a dim grey copy of it.

    Raises:
        InvalidArgumentError: an argument has another shape or type.
    """
    if heat.ndim != 2 or not heat.is_floating_point():
        raise InvalidArgumentError(f"expected heat as float [H, W], got {heat.dtype} {list(heat.shape)}")
    values = np.nan_to_num(heat.detach().float().cpu().numpy(), nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
    glow = heat_colors()[np.rint(values * 255).astype(np.uint8)]
    if image is None:
        return _to_tensor(glow)
    pixels = _to_pixels(image)
    if pixels.shape[:2] != values.shape:
        raise InvalidArgumentError(
            f"expected an image of the heatmap's size {list(values.shape)}, got {list(pixels.shape[:2])}"
        )
    grey = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None] * 0.45
    share = np.sqrt(values)[..., None]
    return _to_tensor(np.rint(grey * (1 - share) + glow * share).astype(np.uint8))


def draw_offsets(offset: Tensor, mask: Tensor | None = None, *, reach: float | None = None) -> Tensor:
    """Draw vectors with the color wheel of optical flow: the hue is the direction, the saturation the length.

    The wheel has 55 colors, as in Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011
    (the Middlebury convention): right is red, down yellow, left cyan, up violet, and no motion white.

    Args:
        offset: float [2, H, W], (y, x) in pixels.
        mask: bool [H, W], the pixels to draw; the others are black.
        reach: length in pixels with full saturation, longer vectors are darkened; by default the length of the longest
            drawn vector.

    Raises:
        InvalidArgumentError: an argument has another shape or type, or ``reach`` is not positive.
    """
    if offset.ndim != 3 or offset.shape[0] != 2 or not offset.is_floating_point():
        raise InvalidArgumentError(f"expected offsets as float [2, H, W], got {offset.dtype} {list(offset.shape)}")
    if mask is not None and (mask.dtype != torch.bool or mask.shape != offset.shape[1:]):
        raise InvalidArgumentError(
            f"expected a mask as bool {list(offset.shape[1:])}, got {mask.dtype} {list(mask.shape)}"
        )
    if reach is not None and not reach > 0:
        raise InvalidArgumentError(f"expected a positive reach in pixels, got {reach}")
    down, right = np.nan_to_num(offset.detach().float().cpu().numpy())
    shown = np.ones(down.shape, bool) if mask is None else mask.cpu().numpy()
    length = np.hypot(down, right)
    if reach is None:
        reach = float(length[shown].max()) if shown.any() else 1.0
    length = length / max(reach, 1e-9)

    wheel = flow_color_wheel()
    position = (np.arctan2(-down, -right) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(position).astype(np.intp)
    between = (position - low)[..., None]
    hue = wheel[low] * (1 - between) + wheel[(low + 1) % len(wheel)] * between
    inside = length[..., None] <= 1
    color = np.where(inside, 1 - length[..., None] * (1 - hue), hue * 0.75)
    return _to_tensor((color * 255 * shown[..., None]).astype(np.uint8))


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
    cells = [_to_pixels(p) for p in images]
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
        return _to_tensor(sheet)
    canvas = Image.fromarray(sheet)
    pen, font = ImageDraw.Draw(canvas), load_font(size)
    for (left, top), title in zip(corners, titles, strict=True):
        shown = title
        while len(shown) > 1 and pen.textlength(shown, font=font) > width:
            shown = shown[:-2].rstrip() + "…"
        pen.text((left + 1, top + head // 2), shown, fill=(40, 44, 52), font=font, anchor="lm")
    return _to_tensor(np.array(canvas))


def _finish(pixels: _Pixels, result: PanopticMap, labels: LabelSpace, *, outlines: bool, names: bool) -> Tensor:
    """Add outlines and names to colored pixels (in place)."""
    if outlines:
        draw_outlines(pixels, result, labels)
    if names:
        pixels = draw_names(pixels, result, labels)
    return _to_tensor(pixels)


# Conversion between tensors and pixels


def _table(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Prepend the color of void to those of the segments or categories."""
    return np.concatenate([np.array([_VOID_COLOR], np.uint8), colors.reshape(-1, 3)])


def _to_pixels(image: Tensor) -> _Pixels:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidArgumentError(
            f"expected an image as uint8 [3, H, W], got {image.dtype} {list(image.shape)}; "
            "panscape.load_image reads files in this form"
        )
    return np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy())


def _to_tensor(pixels: _Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
