"""Overlays of panoptic maps on their images, and drawings of maps alone.

Every image is uint8 [3, H, W], red, green, blue, on the CPU.
"""

from __future__ import annotations

from numbers import Real
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.images import ImageSource, to_image_tensor
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.visualize.blend import blend
from panscape.visualize.instances import segment_colors
from panscape.visualize.legend import append_legend
from panscape.visualize.names import Names, draw_names
from panscape.visualize.outlines import draw_outlines
from panscape.visualize.palette import Palette, category_colors
from panscape.visualize.pixels import to_tensor
from panscape.visualize.text import text_size
from panscape.visualize.void import hatch

_FAINTEST = 0.4  # strength of a thing with score 0
_SURE = 0.5  # score from which things have full strength


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
    for name, value in (("an opacity", opacity), ("a min_score", min_score)):
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise InvalidArgumentError(f"expected {name} from 0 to 1, got {value!r}")
    image = to_image_tensor(image)
    if tuple(image.shape[1:]) != tuple(result.size):
        raise InvalidArgumentError(
            f"expected an image of the map's size {result.size.height}x{result.size.width}, "
            f"got {image.shape[1]}x{image.shape[2]}; resize one of them"
        )
    colors, strength = segment_colors(result, labels, palette), _strength(result, labels)
    if min_score > 0 and result.score is not None:
        is_thing = torch.tensor([c.is_thing for c in labels], device=result.category.device)[result.category]
        keep = ~is_thing | (result.score >= min_score)
        result, kept = result.select(keep), keep.cpu().numpy()
        colors, strength = colors[kept], strength[kept]
    ids = result.ids.cpu().numpy()
    blended = blend(image.detach().cpu().numpy(), ids, _with_void(colors), np.append(0, opacity * strength))
    hatch(blended, ids == 0, text_size(*ids.shape), opacity)
    if outlines:
        draw_outlines(blended, result, labels, strength)
    _write_names(blended, result, labels, colors, names, palette)
    if legend:
        void = f"void, or score below {min_score:.2f}" if min_score > 0 else "void"
        blended = append_legend(blended, result, labels, palette, void)
    return to_tensor(blended)


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
    colors = segment_colors(result, labels, palette)
    pixels = _with_void(colors)[result.ids.cpu().numpy()]
    if outlines:
        draw_outlines(pixels, result, labels, np.ones(result.num_segments))
    _write_names(pixels, result, labels, colors, names, palette)
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
    return to_tensor(_with_void(category_colors(labels, palette))[index.numpy()])


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


def _write_names(
    pixels: NDArray[np.uint8],
    result: PanopticMap,
    labels: LabelSpace,
    colors: NDArray[np.uint8],
    names: Names,
    palette: Palette,
) -> None:
    """Write names into pixels, in the colors of the segments, or in those of the legend for names of categories."""
    if names not in get_args(Names):
        known = ", ".join(f'"{name}"' for name in get_args(Names))
        raise InvalidArgumentError(f"expected names as one of {known}, got {names!r}")
    if names == "none":
        return
    if names == "category":
        colors = category_colors(labels, palette)[result.category.cpu().numpy()]
    draw_names(pixels, result, labels, colors, names)


def _strength(result: PanopticMap, labels: LabelSpace) -> NDArray[np.float64]:
    """Return the share of the opacity of each segment: 1 for stuff and for things without scores."""
    strength = np.ones(result.num_segments)
    if result.score is not None:
        is_thing = np.array([c.is_thing for c in labels])[result.category.cpu().numpy()]
        score = result.score.cpu().numpy()[is_thing].clip(0, _SURE)
        strength[is_thing] = _FAINTEST + (1 - _FAINTEST) * score / _SURE
    return strength


def _with_void(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Prepend black, the color of void, to colors."""
    return np.concatenate([np.zeros((1, 3), np.uint8), colors])
