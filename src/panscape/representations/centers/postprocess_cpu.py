"""Decode centre outputs of one image into a map of the image's own size, from arrays to arrays."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from panscape.geometry import ImageGeometry
from panscape.map_arrays import MapArrays
from panscape.ops.interpolate_cpu import upsample_cpu
from panscape.ops.source_weights import finite_array
from panscape.representations.centers.decode_config import CenterDecoding
from panscape.representations.centers.group_cpu import group_centers_cpu

Floats = NDArray[np.float32]


def resize_outputs_cpu(
    semantic_logits: Floats, center: Floats, offset: Floats, geometry: ImageGeometry, decoding: CenterDecoding
) -> tuple[Floats, Floats, Floats]:
    """Upsample outputs, float32 arrays; :mod:`panscape.representations.centers.resize_outputs` has the definition."""
    semantic, heat, shift = (
        upsample_cpu(part, geometry.padded_size, geometry.inference_size, decoding.align_corners)
        for part in (finite_array(semantic_logits), finite_array(center), finite_array(offset, nan=0))
    )
    if decoding.scales_outputs:
        shift *= np.array(geometry.scale, dtype=np.float32)[:, None, None]
    return semantic, heat, shift


def postprocess_centers_cpu(
    semantic_logits: Floats,
    center: Floats,
    offset: Floats,
    geometry: ImageGeometry,
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> MapArrays:
    """Return the map of one image at its own size; arguments are those of :func:`group_centers_cpu`.

    What is resized where the image entered the network at another size is the option ``resize`` of the decoding.
    """
    if not geometry.is_resized or decoding.resize == "map":
        found = group_centers_cpu(semantic_logits, center, offset, geometry, thing_ids, decoding)
        return found.resize(*geometry.size).compact() if geometry.is_resized else found
    resized = resize_outputs_cpu(semantic_logits, center, offset, geometry, decoding)
    target = ImageGeometry.of(geometry.size)
    return group_centers_cpu(*resized, target, thing_ids, decoding.for_resized_outputs(geometry))
