"""Maps from centres of objects and offsets to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.postprocess.inputs import (
    Array,
    Sides,
    floats,
    geometry_of,
    label_space,
    require_one_device,
    resized,
    with_given_labels,
)
from panscape.representations.centers import CenterDecoding, CenterOutputs, CenterRepresentation
from panscape.representations.decoding_options import replace_options


def map_from_centers(
    semantic_logits: Array,
    center: Array,
    offset: Array,
    size: Sides,
    *,
    labels: LabelSpace | str | None = None,
    things: Iterable[int] | None = None,
    inference_size: Sides | None = None,
    padded_size: Sides | None = None,
    **options: Any,
) -> PanopticMap:
    """Group the pixels of things by the centres their offsets point to.

    Replaces ``get_panoptic_segmentation`` of detectron2's Panoptic-DeepLab and of the older repository, and the resizes
    before it. With the tensors that detectron2's ``inference`` passes to it (before ``argmax``)::

        result = map_from_centers(
            r, c, o, (height, width), labels="cityscapes", compat="panoptic_deeplab", stuff_area=2048)

    Faster, with the outputs of the heads, which are never upsampled as a whole::

        result = map_from_centers(
            semantic[i], center[i], offset[i] * 4, (height, width), labels="cityscapes", stuff_area=2048,
            compat="panoptic_deeplab", resize="outputs", padded_size=images.tensor.shape[-2:])

    Args:
        semantic_logits: float [C, h, w].
        center: heatmap of centres, about 0..1, float [1, h, w].
        offset: from each pixel to its centre as (dy, dx), in pixels of the network's input, float [2, h, w]. Heads that
            predict in their own cells are multiplied by their stride.
        size: height and width of the map.
        labels: label space of the C categories, or its name.
        things: instead of ``labels``, the categories that are things.
        inference_size: size of the image at the network's input; None for ``size``.
        padded_size: size of the network's input; None for ``inference_size``.
        **options: those of :class:`~panscape.representations.centers.CenterDecoding`: ``threshold``, ``nms_kernel``,
            ``top_k``, ``stuff_area``, ``align_corners``, ``compat``, ``resize``, ...

    Returns:
        A map of the given size on the device of the logits. The score of a thing is the heatmap's value at its centre.

    Raises:
        InvalidArgumentError: a tensor, a size or an option is not as described.
        UnknownNameError: there is no such option, or no such label space.
    """
    decoding = replace_options(CenterDecoding(), options)
    semantic_logits = floats("semantic_logits", semantic_logits, "C, h, w", "pass logits, not their argmax")
    center, offset = floats("center", center, "1, h, w"), floats("offset", offset, "2, h, w")
    require_one_device(semantic_logits=semantic_logits, center=center, offset=offset)
    space = label_space(labels, things, len(semantic_logits), "semantic_logits")
    geometry = geometry_of(size, inference_size, padded_size, semantic_logits)
    outputs = CenterOutputs(semantic_logits[None], center[None], offset[None])
    representation = CenterRepresentation(decoding=decoding)
    if decoding.resize == "outputs":
        (found,) = representation.decode_resized(outputs, [geometry], space)
    else:
        (found,) = representation.decode(outputs, [geometry], space)
    return with_given_labels(resized(found, geometry), labels)
