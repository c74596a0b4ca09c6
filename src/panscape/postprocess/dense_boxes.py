"""Maps from boxes that are predicted at every location."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.postprocess.inputs import (
    Array,
    Sides,
    before_resizing,
    floats,
    geometry_of,
    label_space,
    require_one_device,
    resized,
    with_given_labels,
)
from panscape.representations.decoding_options import replace_options
from panscape.representations.dense_boxes import DenseBoxDecoding, DenseBoxOutputs
from panscape.representations.dense_boxes.decode import decode_dense_boxes
from panscape.representations.dense_boxes.locations import Pyramid, level_sizes


def map_from_dense_boxes(
    semantic_logits: Array,
    box_category: Array,
    box: Array,
    centerness: Array,
    size: Sides,
    *,
    levelness: Array | None = None,
    labels: LabelSpace | str | None = None,
    things: Iterable[int] | None = None,
    inference_size: Sides | None = None,
    padded_size: Sides | None = None,
    **options: Any,
) -> PanopticMap:
    """Select boxes that are predicted at every location, build their masks and merge them with the stuff.

    For the outputs of "Real-Time Panoptic Segmentation from Dense Detections". L are the locations of all levels, the
    finest first, in row-major order: concatenate the flattened outputs of the levels.

    Args:
        semantic_logits: float [C, h, w]; ``padded_size`` is a multiple of h and w, by the stride of the finest level.
        box_category: logits of the things in ascending order, float [T, L].
        box: distances from the location to the left, top, right and bottom side in pixels of the network's input, float
            [4, L].
        centerness: logits, float [L].
        size: height and width of the map.
        levelness: logits, float [1 + levels, 2h, 2w], channel 0 for no object; None for networks without it.
        labels: label space of the C categories, or its name.
        things: instead of ``labels``, the categories that are things.
        inference_size: size of the image at the network's input; None for ``size``.
        padded_size: size of the network's input; None for ``inference_size``.
        **options: those of :class:`~panscape.representations.dense_boxes.DenseBoxDecoding` and of its
            :class:`~panscape.representations.fusion.FusionConfig`.

    Returns:
        A map of the given size on the device of the logits. First the stuff with score 1, then the objects.

    Raises:
        InvalidArgumentError: a tensor, a size or an option is not as described.
        UnknownNameError: there is no such option, or no such label space.
    """
    decoding = replace_options(DenseBoxDecoding(), options)
    semantic_logits = floats("semantic_logits", semantic_logits, "C, h, w", "pass logits, not their argmax")
    parts = {
        "box_category": floats("box_category", box_category, "T, L"),
        "box": floats("box", box, "4, L"),
        "centerness": floats("centerness", centerness, "L"),
    }
    space = label_space(labels, things, len(semantic_logits), "semantic_logits")
    geometry = geometry_of(size, inference_size, padded_size, semantic_logits)
    pyramid = _pyramid(geometry, semantic_logits, {name: part.shape[-1] for name, part in parts.items()})
    if levelness is not None:
        parts["levelness"] = floats("levelness", levelness, "1 + levels, 2h, 2w")
    require_one_device(semantic_logits=semantic_logits, **parts)
    box_category, box, centerness = (parts[name][None] for name in ("box_category", "box", "centerness"))
    levels = parts["levelness"][None] if "levelness" in parts else None
    outputs = DenseBoxOutputs(semantic_logits[None], box_category, box, centerness, levels)
    seen = before_resizing(geometry) if decoding.resize == "map" else geometry
    (found,) = decode_dense_boxes(outputs, [seen], space, pyramid, decoding)
    return with_given_labels(resized(found, geometry), labels)


def _pyramid(geometry: ImageGeometry, semantic_logits: Tensor, num_locations: dict[str, int]) -> Pyramid:
    """Return the geometry of the locations, whose number determines that of the levels."""
    (height, width), (rows, columns) = geometry.padded_size, semantic_logits.shape[1:]
    stride = height // max(rows, 1)
    if (rows * stride, columns * stride) != (height, width):
        raise InvalidArgumentError(
            f"expected semantic_logits at a stride of the padded size {height}x{width}, got {rows}x{columns}; give the "
            "padded_size"
        )
    if len(set(num_locations.values())) > 1:
        got = ", ".join(f"{name} {num}" for name, num in num_locations.items())
        raise InvalidArgumentError(f"expected the same number of locations in all outputs, got {got}")
    (num,) = set(num_locations.values())
    sums = [sum(side.area for side in level_sizes(Pyramid((height, width), stride, n))) for n in range(1, 11)]
    if num not in sums:
        raise InvalidArgumentError(
            f"expected locations of levels from {rows}x{columns} cells on, each half of the previous: "
            f"{', '.join(map(str, sums[:6]))}, ..., got {num}"
        )
    return Pyramid((height, width), stride, 1 + sums.index(num))
