"""Overlays of panoptic maps on their images, and drawings of maps alone.

Every image is uint8 [3, H, W], red, green, blue, on the CPU.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.images import ImageSource, to_image_tensor
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.visualize.draw_arrays import draw_overlay, with_void, write_names
from panscape.visualize.instances import colors_of_segments
from panscape.visualize.names import Names
from panscape.visualize.oklab import Colors
from panscape.visualize.outlines import draw_outlines
from panscape.visualize.palette import Palette, category_colors
from panscape.visualize.pixels import to_tensor


def draw(
    image: ImageSource,
    result: PanopticMap,
    labels: LabelSpace | str | None = None,
    *,
    opacity: float = 0.5,
    outlines: bool = True,
    names: Names = "category",
    min_score: float = 0.0,
    palette: Palette = "distinct",
    legend: bool = False,
) -> Tensor:
    """Overlay a panoptic map on its image.

    Stuff has the color of its category, each thing a shade of that color (see :func:`segment_colors`) which fades with
    scores below 0.5. Void is grey under diagonal lines. Lines and text grow with the image.

    Args:
        image: a path, PIL image, array [H, W, 3] or tensor [3, H, W], all red, green, blue; see
            :func:`panscape.images.to_image_tensor`.
        result: a map of the same height and width.
        labels: the label space of the map, or the name of a bundled one; None for the map's own labels.
        opacity: opacity of the colors, 0 (only the image) to 1 (only the colors, for things with score 1).
        outlines: draw lines between segments; things have a light line inside and a dark one around.
        names: "category" writes each category once, with the number of its things; "segment" names every segment, with
            the score of things; "none" writes nothing. Names that would hide most of a segment are omitted.
        min_score: draw things with a lower score as void, 0..1.
        palette: "distinct", distinguishable colors, also with color vision deficiencies, or "published",
            those of the label space; see :func:`category_colors`.
        legend: append a legend below the image.

    Returns:
        uint8 [3, H, W]; higher by the legend, if there is one.

    Raises:
        InvalidArgumentError: the image is not of a supported type or of the map's size, an option has an invalid value,
            there are no labels, or a segment's category is not in them.
        UnreadableFileError: a path cannot be read.
    """
    labels = _labels_of(result, labels)
    image = to_image_tensor(image)
    if tuple(image.shape[1:]) != tuple(result.size):
        raise InvalidArgumentError(
            f"expected an image of the map's size {result.size.height}x{result.size.width}, "
            f"got {image.shape[1]}x{image.shape[2]}; resize one of them"
        )
    pixels = draw_overlay(
        image.detach().cpu().numpy(),
        result.arrays(),
        labels,
        opacity=opacity,
        outlines=outlines,
        names=names,
        min_score=min_score,
        palette=palette,
        legend=legend,
    )
    return to_tensor(pixels)


def draw_segments(
    result: PanopticMap,
    labels: LabelSpace | str | None = None,
    *,
    outlines: bool = True,
    names: Names = "none",
    palette: Palette = "distinct",
) -> Tensor:
    """Draw a panoptic map without its image: the colors of :func:`draw` at full opacity, void black.

    Raises:
        InvalidArgumentError: there are no labels, a segment's category is not in them, or an option has an invalid
            value.
    """
    labels = _labels_of(result, labels)
    arrays = result.arrays()
    colors = colors_of_segments(arrays, labels, palette)
    pixels = with_void(colors)[arrays.ids]
    if outlines:
        draw_outlines(pixels, arrays, labels, np.ones(arrays.num_segments))
    write_names(pixels, arrays, labels, colors, names, palette)
    return to_tensor(pixels)


def draw_semantic(semantic: Tensor, labels: LabelSpace, *, palette: Palette = "distinct") -> Tensor:
    """Draw the category of every pixel in its color.

    Args:
        semantic: integer [H, W], category ids; every other value is void and black.
        labels: the label space of the ids.
        palette: see :func:`draw`.

    Raises:
        InvalidArgumentError: ``semantic`` is not an integer [H, W], or there is no such palette.
    """
    if semantic.ndim != 2 or semantic.is_floating_point() or semantic.dtype == torch.bool:
        raise InvalidArgumentError(
            f"expected category ids as integers [H, W], got {semantic.dtype} {list(semantic.shape)}"
        )
    index = semantic.detach().cpu().long() + 1
    index[(index < 1) | (index > len(labels))] = 0
    return to_tensor(with_void(category_colors(labels, palette))[index.numpy()])


def segment_colors(result: PanopticMap, labels: LabelSpace, palette: Palette = "distinct") -> Colors:
    """Return the color of every segment, uint8 [S, 3].

    Stuff, and the first thing of each category, have the category's color. Further things have one of eight shades of
    it, in turn, unless another shade differs more from those of the things of their category close to them.

    Raises:
        InvalidArgumentError: a segment's category is not in ``labels``, or there is no such palette.
    """
    return colors_of_segments(result.arrays(), labels, palette)


def _labels_of(result: PanopticMap, labels: LabelSpace | str | None) -> LabelSpace:
    """Return the given labels, else those of the map."""
    if not isinstance(result, PanopticMap):
        raise InvalidArgumentError(
            f"expected a PanopticMap to draw, got {type(result).__name__}; the image, if any, comes before the map"
        )
    labels = result.labels if labels is None else LabelSpace.of(labels)
    if labels is None:
        raise InvalidArgumentError(
            "expected labels, as the map has none; give the label space of its categories, for example model.labels"
        )
    return labels
