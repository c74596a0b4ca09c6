"""Visualisation of network outputs: heatmaps and offsets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.visualize.oklab import Colors, from_oklab, to_oklab
from panscape.visualize.pixels import to_pixels, to_tensor

PANEL_TITLES = {
    "semantic": "semantic segmentation",
    "centers": "centers",
    "offsets": "offset directions",
    "boxes": "boxes and offsets to their centers",
    "levels": "pyramid levels of objects",
    "masks": "instance masks",
    "proposals": "objectness and proposals",
    "detections": "detected boxes",
    "objectness": "objectness",
    "queries": "queries before thresholds",
    "probability": "probability of the best query",
    "class_planes": "probability of each box's category",
}
"""Titles of the networks' panels, by the name that a model gives them."""


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
    glow = _heat_colors()[np.rint(values * 255).astype(np.uint8)]
    if image is None:
        return to_tensor(glow)
    pixels = to_pixels(image)
    if pixels.shape[:2] != values.shape:
        raise InvalidArgumentError(
            f"expected an image of the heatmap's size {list(values.shape)}, got {list(pixels.shape[:2])}"
        )
    grey = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None] * 0.45
    share = np.sqrt(values)[..., None]
    return to_tensor(np.rint(grey * (1 - share) + glow * share).astype(np.uint8))


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

    wheel = _flow_color_wheel()
    position = (np.arctan2(-down, -right) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(position).astype(np.intp)
    between = (position - low)[..., None]
    hue = wheel[low] * (1 - between) + wheel[(low + 1) % len(wheel)] * between
    inside = length[..., None] <= 1
    color = np.where(inside, 1 - length[..., None] * (1 - hue), hue * 0.75)
    return to_tensor((color * 255 * shown[..., None]).astype(np.uint8))


def line_width(image: Tensor) -> int:
    """Return the width of lines in an image [3, H, W], pixels."""
    return max(1, round(max(image.shape[1:]) / 600))  # large images are displayed downscaled


def draw_boxes(image: Tensor, boxes: Tensor, color: int | Sequence[int]) -> None:
    """Draw the outermost pixels of boxes into an image, in place, with a dark line around each.

    Args:
        image: uint8 [3, H, W].
        boxes: xyxy in pixels, float [N, 4]; may exceed the image.
        color: of the lines: brightness, or red, green and blue, 0..255.
    """
    height, width = image.shape[1:]
    thick = line_width(image)
    line = torch.zeros(height, width, dtype=torch.bool)
    for x1, y1, x2, y2 in boxes.round().int().tolist():
        left, right = (max(min(x, width - 1), 0) for x in (x1, x2))
        top, bottom = (max(min(y, height - 1), 0) for y in (y1, y2))
        line[top : bottom + 1, left : right + 1][:thick] = True
        line[max(top, bottom + 1 - thick) : bottom + 1, left : right + 1] = True
        line[top : bottom + 1, left : right + 1][:, :thick] = True
        line[top : bottom + 1, max(left, right + 1 - thick) : right + 1] = True
    near = F.max_pool2d(line[None].float(), 2 * thick + 1, stride=1, padding=thick)[0] > 0
    image[:, near] = 0
    image[:, line] = torch.tensor(color, dtype=torch.uint8).expand(3)[:, None]


@cache
def _heat_colors() -> Colors:
    """Return 256 colors of increasing lightness, interpolated in OKLab."""
    anchors = np.array([(6, 5, 16), (72, 18, 110), (170, 40, 95), (240, 110, 40), (250, 205, 70), (255, 255, 240)])
    lab = to_oklab(anchors.astype(np.uint8))
    at, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(anchors))
    return from_oklab(np.stack([np.interp(at, stops, lab[:, i]) for i in range(3)], axis=1))


@cache
def _flow_color_wheel() -> NDArray[np.float64]:
    """Return the 55 colors of the wheel, red, green, blue in 0..1; each part ramps one channel up or down."""
    parts = (  # number of colors, constant full channel, changing channel, whether it increases
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
