"""Pictures of panoptic maps and of what the networks say: torch, NumPy and Pillow, nothing else.

Every picture is uint8 [3, H, W], red, green, blue, on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace

if TYPE_CHECKING:
    from panscape.panoptic import PanopticMap

_Pixels = NDArray[np.uint8]  # [H, W, 3]
_Box = tuple[int, int, int, int]  # left, top, right, bottom; half-open

_GOLDEN = (math.sqrt(5) - 1) / 2
_VOID_COLOR = (0, 0, 0)
_MOST_NAMES = 250  # more than this cannot be read on any picture


def draw(
    image: Tensor,
    result: PanopticMap,
    labels: LabelSpace,
    *,
    opacity: float = 0.5,
    outlines: bool = True,
    names: bool = True,
) -> Tensor:
    """Lay a panoptic map over its picture.

    Stuff has its category's colour, each thing a shade of its own of its category's colour (see
    :func:`segment_colors`); void shows the picture itself.

    Args:
        image: uint8 [3, H, W], red, green, blue.
        result: a map of the same height and width.
        labels: the label space of the map.
        opacity: of the colours, 0 (the picture alone) to 1 (the colours alone).
        outlines: draw lines between segments; things have a light line inside and a dark one around.
        names: write category names (and scores, where the map has them) on segments large enough to carry them.

    Returns:
        uint8 [3, H, W].

    Raises:
        InvalidArgumentError: the picture is not uint8 [3, H, W] of the map's size, ``opacity`` is outside 0..1, or a
            segment's category is not in ``labels``.
    """
    if not 0 <= opacity <= 1:
        raise InvalidArgumentError(f"expected an opacity from 0 to 1, got {opacity}")
    pixels = _to_pixels(image)
    if tuple(image.shape[1:]) != tuple(result.size):
        raise InvalidArgumentError(
            f"expected a picture as large as its map, {result.size.height}x{result.size.width}, "
            f"got {image.shape[1]}x{image.shape[2]}; resize one of them"
        )
    colors = _table(segment_colors(result, labels))
    ids = result.ids.cpu().numpy()
    # 8-bit fixed point: a quarter of the time of floats, and exact at both ends.
    weight = np.full(len(colors), round(opacity * 256), np.uint16)
    weight[0] = 0
    share = weight[ids][..., None]
    blended = ((pixels * (256 - share) + colors[ids] * share + 128) >> 8).astype(np.uint8)
    return _finish(blended, result, labels, outlines=outlines, names=names)


def draw_segments(result: PanopticMap, labels: LabelSpace, *, outlines: bool = True, names: bool = False) -> Tensor:
    """Draw a panoptic map alone: the colours of :func:`draw` at full strength, void black.

    Raises:
        InvalidArgumentError: a segment's category is not in ``labels``.
    """
    pixels = _table(segment_colors(result, labels))[result.ids.cpu().numpy()]
    return _finish(pixels, result, labels, outlines=outlines, names=names)


def draw_semantic(semantic: Tensor, labels: LabelSpace) -> Tensor:
    """Draw the category of every pixel in its colour.

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
        heat: float [H, W]; values outside 0..1 are drawn as the nearest of both, NaN as 0.
        image: uint8 [3, H, W]; the heat then glows over a dim grey copy of it.

    Raises:
        InvalidArgumentError: a shape or type is not as above.
    """
    if heat.ndim != 2 or not heat.is_floating_point():
        raise InvalidArgumentError(f"expected heat as float [H, W], got {heat.dtype} {list(heat.shape)}")
    values = np.nan_to_num(heat.detach().float().cpu().numpy(), nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
    glow = _heat_colors()[np.rint(values * 255).astype(np.uint8)]
    if image is None:
        return _to_tensor(glow)
    pixels = _to_pixels(image)
    if pixels.shape[:2] != values.shape:
        raise InvalidArgumentError(
            f"expected a picture of the heat's size {list(values.shape)}, got {list(pixels.shape[:2])}"
        )
    grey = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None] * 0.45
    share = np.sqrt(values)[..., None]
    return _to_tensor(np.rint(grey * (1 - share) + glow * share).astype(np.uint8))


def draw_offsets(offset: Tensor, mask: Tensor | None = None, *, reach: float | None = None) -> Tensor:
    """Draw vectors in the colour wheel of optical flow: the direction is the hue, the length the saturation.

    The wheel has 55 colours, as in Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011
    (the Middlebury convention): right is red, down yellow, left cyan, up violet, and no motion white.

    Args:
        offset: float [2, H, W], rows then columns (y, x), in pixels.
        mask: bool [H, W], the pixels to draw; the others are black.
        reach: length in pixels that gets the full colour, longer ones are darkened; by default the longest vector
            drawn.

    Raises:
        InvalidArgumentError: a shape or type is not as above, or ``reach`` is not positive.
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

    wheel = _flow_wheel()
    position = (np.arctan2(-down, -right) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(position).astype(np.intp)
    between = (position - low)[..., None]
    hue = wheel[low] * (1 - between) + wheel[(low + 1) % len(wheel)] * between
    inside = length[..., None] <= 1
    color = np.where(inside, 1 - length[..., None] * (1 - hue), hue * 0.75)
    return _to_tensor((color * 255 * shown[..., None]).astype(np.uint8))


def side_by_side(pictures: Sequence[Tensor], titles: Sequence[str] = (), *, columns: int | None = None) -> Tensor:
    """Put pictures into one, each under its title.

    Args:
        pictures: uint8 [3, H, W] each; those smaller than the largest are centred in their cell.
        titles: one for each picture, or none at all.
        columns: pictures in a row; by default all of them.

    Raises:
        InvalidArgumentError: no picture, a picture of another type, ``columns`` below 1, or titles that do not count
            as many as pictures.
    """
    if not pictures:
        raise InvalidArgumentError("expected at least one picture, got none")
    if titles and len(titles) != len(pictures):
        raise InvalidArgumentError(f"expected {len(pictures)} titles, one for each picture, got {len(titles)}")
    if columns is not None and columns < 1:
        raise InvalidArgumentError(f"expected at least one column, got {columns}")
    cells = [_to_pixels(p) for p in pictures]
    height, width = (max(c.shape[axis] for c in cells) for axis in (0, 1))
    columns = min(columns or len(cells), len(cells))
    rows = -(-len(cells) // columns)
    size = round(1.35 * _text_size(height, width))  # the sheet is seen smaller than one picture
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
    pen, font = ImageDraw.Draw(canvas), _font(size)
    for (left, top), title in zip(corners, titles, strict=True):
        shown = title
        while len(shown) > 1 and pen.textlength(shown, font=font) > width:
            shown = shown[:-2].rstrip() + "…"
        pen.text((left + 1, top + head // 2), shown, fill=(40, 44, 52), font=font, anchor="lm")
    return _to_tensor(np.array(canvas))


# Colours


def segment_colors(result: PanopticMap, labels: LabelSpace) -> NDArray[np.uint8]:
    """Return the colour of every segment, uint8 [S, 3].

    Stuff, and the first thing of each category, get the category's colour. Further things get shades of it that
    follow from their place among the rows of their category alone: lightness moves by golden-ratio steps through a
    third of the scale and hue by up to a twentieth of the circle, both in the OKLCh space (Ottosson, "A perceptual
    color space for image processing", 2020), so that neighbours in the order are far apart.

    Raises:
        InvalidArgumentError: a segment's category is not in ``labels``.
    """
    category = result.category.cpu().numpy()
    if len(category) and category.max() >= len(labels):
        raise InvalidArgumentError(
            f"expected categories of {labels.name!r}, 0..{len(labels) - 1}, got {category.max()}; "
            "give the label space that the map was made with"
        )
    base = np.array([c.color for c in labels], np.uint8)
    is_thing = np.array([c.is_thing for c in labels])
    rank = np.zeros(len(category), np.int64)
    order = np.argsort(category, kind="stable")
    starts = np.flatnonzero(np.diff(category[order], prepend=-1))
    rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    rank[~is_thing[category]] = 0
    colors: NDArray[np.uint8] = base[category]
    shaded = rank > 0
    colors[shaded] = _shades(base[category[shaded]], rank[shaded])
    return colors


def _shades(colors: NDArray[np.uint8], rank: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the shade that the thing of ``rank`` (1 and on) in its category gets, uint8 [N, 3]."""
    lab = _srgb_to_oklab(colors)
    lightness, chroma, hue = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2]), np.arctan2(lab[:, 2], lab[:, 1])
    low = (lightness - 0.16).clip(0.30, 0.56)
    # The walk starts where the category's own colour lies, so that the second thing is already far from the first.
    start = ((lightness - low) / 0.34).clip(0, 1)
    new_lightness = low + 0.34 * ((start + rank * _GOLDEN) % 1)
    new_hue = hue + math.radians(18) * (2 * ((0.5 + rank * (math.sqrt(2) - 1)) % 1) - 1)
    new_chroma = chroma * (0.85 + 0.3 * ((rank * _GOLDEN * 2) % 1))
    shade = np.stack([new_lightness, new_chroma * np.cos(new_hue), new_chroma * np.sin(new_hue)], axis=1)
    return _oklab_to_srgb(shade)


_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _srgb_to_oklab(colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    value = colors / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    lab: NDArray[np.float64] = np.cbrt(linear @ _RGB_TO_LMS.T) @ _LMS_TO_LAB.T
    return lab


def _oklab_to_srgb(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    linear = ((lab @ np.linalg.inv(_LMS_TO_LAB).T) ** 3 @ np.linalg.inv(_RGB_TO_LMS).T).clip(0, 1)
    value = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    srgb: NDArray[np.uint8] = np.rint(value * 255).astype(np.uint8)
    return srgb


@cache
def _heat_colors() -> NDArray[np.uint8]:
    """256 colours of steadily growing lightness, interpolated in OKLab."""
    anchors = np.array([(6, 5, 16), (72, 18, 110), (170, 40, 95), (240, 110, 40), (250, 205, 70), (255, 255, 240)])
    lab = _srgb_to_oklab(anchors.astype(np.uint8))
    at, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(anchors))
    return _oklab_to_srgb(np.stack([np.interp(at, stops, lab[:, i]) for i in range(3)], axis=1))


@cache
def _flow_wheel() -> NDArray[np.float64]:
    """The 55 colours of the wheel, red, green, blue in 0..1; each part ramps one channel up or down."""
    parts = (  # how many colours, the channel that stays full, the channel that changes, upwards or not
        (15, 0, 1, True),  # red to yellow
        (6, 1, 0, False),  # yellow to green
        (4, 1, 2, True),  # green to cyan
        (11, 2, 1, False),  # cyan to blue
        (13, 2, 0, True),  # blue to magenta
        (6, 0, 2, False),  # magenta to red
    )
    wheel = np.zeros((sum(p[0] for p in parts), 3))
    row = 0
    for count, full, changing, up in parts:
        ramp = np.floor(255 * np.arange(count) / count) / 255
        wheel[row : row + count, full] = 1
        wheel[row : row + count, changing] = ramp if up else 1 - ramp
        row += count
    return wheel


# Outlines


def _finish(pixels: _Pixels, result: PanopticMap, labels: LabelSpace, *, outlines: bool, names: bool) -> Tensor:
    """Add outlines and names to coloured pixels (in place)."""
    if outlines:
        _draw_outlines(pixels, result, labels)
    if names:
        pixels = _draw_names(pixels, result, labels)
    return _to_tensor(pixels)


def _draw_outlines(pixels: _Pixels, result: PanopticMap, labels: LabelSpace) -> None:
    """Things get a light line inside and a dark line around; between stuff runs one faint dark line.

    Of two things that touch, the later row counts as lying on top.
    """
    category = result.category.cpu().numpy()
    is_thing = np.array([c.is_thing for c in labels])[category]
    rank = np.zeros(len(category) + 1, np.int32)  # void below stuff below things
    rank[1:] = np.arange(1, len(category) + 1) + np.where(is_thing, len(category), 0)
    first_thing = len(category) + 1
    field = rank[result.ids.cpu().numpy()]
    width = max(1, round(max(field.shape) / 1000))
    lowest, highest = _extreme(field, width, np.minimum), _extreme(field, width, np.maximum)
    light = (field >= first_thing) & (lowest < field)
    dark = (highest > field) & (highest >= first_thing)
    faint = (highest != field) & ~light & ~dark
    # Where a thing lies both on and under others, the dark line keeps them apart.
    light &= ~dark
    pixels[light] = 255 - ((255 - pixels[light].astype(np.uint16)) * 45 >> 8).astype(np.uint8)
    pixels[dark] = (pixels[dark].astype(np.uint16) * 90 >> 8).astype(np.uint8)
    pixels[faint] = (pixels[faint].astype(np.uint16) * 150 >> 8).astype(np.uint8)


def _extreme(field: NDArray[np.int32], reach: int, pick: np.ufunc) -> NDArray[np.int32]:
    """Return the lowest or highest value within ``reach`` pixels along rows and columns (a plus, not a square)."""
    result = field.copy()
    for step in range(1, reach + 1):
        pick(result[step:], field[:-step], out=result[step:])
        pick(result[:-step], field[step:], out=result[:-step])
        pick(result[:, step:], field[:, :-step], out=result[:, step:])
        pick(result[:, :-step], field[:, step:], out=result[:, :-step])
    return result


# Names


def _draw_names(pixels: _Pixels, result: PanopticMap, labels: LabelSpace) -> _Pixels:
    """Write the names of the largest segments first; none overlaps another or leaves the picture."""
    size = _text_size(*pixels.shape[:2])
    font = _font(size)
    areas = result.areas().cpu().numpy()
    colors = segment_colors(result, labels)
    anchors = _anchors(result)
    boxes = result.boxes().cpu().numpy().astype(int)
    canvas = Image.fromarray(pixels)
    pen = ImageDraw.Draw(canvas)
    taken: list[_Box] = []
    for row in np.argsort(-areas, kind="stable")[:_MOST_NAMES]:
        if areas[row] < (1.5 * size) ** 2 or int(row) not in anchors:
            break
        text = _name(result, labels, int(row))
        width = math.ceil(pen.textlength(text, font=font)) + size
        height = round(1.5 * size)
        # Stuff comes in many parts: a name beside the box of them all would lie on something else.
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
    if result.score is not None:
        text += f" {float(result.score[row]):.2f}"
    return text


def _place(
    label: tuple[int, int],
    anchor: tuple[int, int],
    box: Sequence[int] | None,
    picture: Sequence[int],
    taken: Iterable[_Box],
) -> _Box | None:
    """Return where a label of ``(height, width)`` can lie, or None.

    Inside the segment around ``anchor`` (y, x), or just above or below its ``box`` where the label would hide it.
    """
    height, width = label
    if height > picture[0] or width > picture[1]:
        return None
    y, x = anchor
    if box is None or (box[3] - box[1] >= 2.5 * height and box[2] - box[0] >= 1.2 * width):
        centers = [(y, x), (y - height, x), (y + height, x), (y, x - width // 2), (y, x + width // 2)]
    else:
        middle = (box[0] + box[2]) // 2
        centers = [(box[1] - height // 2 - 1, middle), (box[3] + height // 2 + 1, middle)]
    for center_y, center_x in centers:
        start_x = min(max(center_x - width // 2, 0), picture[1] - width)
        start_y = min(max(center_y - height // 2, 0), picture[0] - height)
        place = (start_x, start_y, start_x + width, start_y + height)
        if not any(_overlap(place, other) for other in taken):
            return place
    return None


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _anchors(result: PanopticMap) -> Mapping[int, tuple[int, int]]:
    """Return a point (y, x) deep inside every segment that a small copy of the map still shows, by row."""
    height, width = result.size
    step = max(1, max(height, width) // 256)
    ids = result.ids.cpu().numpy()[step // 2 :: step, step // 2 :: step]
    depth = np.zeros(ids.shape, np.int32)
    # Peel layer by layer: a pixel's depth is the number of times that its whole neighbourhood was of its segment.
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


def _text_size(height: int, width: int) -> int:
    """Return a size of text in pixels that reads well on a picture of this size."""
    return max(10, round(max(height, width) / 95))


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)  # the outline font that Pillow carries: the same pictures on every machine


# Between tensors and pixels


def _table(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put the colour of void before those of the segments or categories."""
    return np.concatenate([np.array([_VOID_COLOR], np.uint8), colors.reshape(-1, 3)])


def _to_pixels(image: Tensor) -> _Pixels:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidArgumentError(
            f"expected a picture as uint8 [3, H, W], got {image.dtype} {list(image.shape)}; "
            "panscape.load_image reads files so"
        )
    return np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy())


def _to_tensor(pixels: _Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
