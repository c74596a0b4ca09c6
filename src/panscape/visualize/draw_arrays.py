"""Overlays of panoptic maps on their images, as arrays; :mod:`panscape.visualize.overlay` has them for tensors."""

from __future__ import annotations

from numbers import Real
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.visualize.blend import Pixels, blend
from panscape.visualize.instances import colors_of_segments
from panscape.visualize.legend import append_legend
from panscape.visualize.names import Names, draw_names
from panscape.visualize.oklab import Colors
from panscape.visualize.outlines import draw_outlines
from panscape.visualize.palette import Palette, category_colors
from panscape.visualize.text import text_size
from panscape.visualize.void import hatch

_FAINTEST = 0.4  # strength of a thing with score 0
_SURE = 0.5  # score from which things have full strength


def draw_overlay(
    image: NDArray[np.uint8],
    result: MapArrays,
    labels: LabelSpace,
    *,
    opacity: float = 0.5,
    outlines: bool = True,
    names: Names = "category",
    min_score: float = 0.0,
    palette: Palette = "distinct",
    legend: bool = False,
) -> Pixels:
    """Overlay a panoptic map on its image, uint8 [3, H, W], of the same size; options are those of :func:`draw`.

    Returns:
        uint8 [H, W, 3]; higher by the legend, if there is one.

    Raises:
        InvalidArgumentError: an option has an invalid value, or a segment's category is not in ``labels``.
    """
    for name, value in (("an opacity", opacity), ("a min_score", min_score)):
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise InvalidArgumentError(f"expected {name} from 0 to 1, got {value!r}")
    colors, strength = colors_of_segments(result, labels, palette), _strength(result, labels)
    if min_score > 0 and result.score is not None:
        is_thing = np.array([c.is_thing for c in labels])[result.category]
        keep = ~is_thing | (result.score >= min_score)
        result, colors, strength = result.select(keep), colors[keep], strength[keep]
    ids = result.ids
    blended = blend(image, ids, with_void(colors), np.append(0, opacity * strength))
    hatch(blended, ids == 0, text_size(*ids.shape), opacity)
    if outlines:
        draw_outlines(blended, result, labels, strength)
    write_names(blended, result, labels, colors, names, palette)
    if legend:
        void = f"void, or score below {min_score:.2f}" if min_score > 0 else "void"
        blended = append_legend(blended, result, labels, palette, void)
    return blended


def write_names(
    pixels: Pixels,
    result: MapArrays,
    labels: LabelSpace,
    colors: Colors,
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
        colors = category_colors(labels, palette)[result.category]
    draw_names(pixels, result, labels, colors, names)


def _strength(result: MapArrays, labels: LabelSpace) -> NDArray[np.float64]:
    """Return the share of the opacity of each segment: 1 for stuff and for things without scores."""
    strength = np.ones(result.num_segments)
    if result.score is not None:
        is_thing = np.array([c.is_thing for c in labels])[result.category]
        score = result.score[is_thing].clip(0, _SURE)
        strength[is_thing] = _FAINTEST + (1 - _FAINTEST) * score / _SURE
    return strength


def with_void(colors: Colors) -> Colors:
    """Prepend black, the color of void, to colors."""
    return np.concatenate([np.zeros((1, 3), np.uint8), colors])
