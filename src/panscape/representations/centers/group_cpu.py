"""Decode centre outputs of one image with compiled kernels, from arrays to arrays.

:mod:`panscape.representations.centers.decode` has the rules and their definition.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from panscape.geometry import ImageGeometry
from panscape.map_arrays import MapArrays
from panscape.ops.source_weights import cell_table, finite_array
from panscape.representations.centers.decode_config import CenterDecoding
from panscape.representations.centers.decode_cpu import group, paint
from panscape.representations.centers.peaks_cpu import find_peaks
from panscape.representations.parts_cpu import apply_parts_cpu

Floats = NDArray[np.float32]


def group_centers_cpu(
    semantic_logits: Floats,
    center: Floats,
    offset: Floats,
    geometry: ImageGeometry,
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> MapArrays:
    """Group one image's outputs into segments with compiled kernels, which equal the definition in every pixel.

    Args:
        semantic_logits: float32 [C, h, w], one plane per category.
        center: float32 [h, w], heatmap of centres.
        offset: float32 [2, h, w], from each pixel to its segment's centre as (dy, dx), in pixels of the input image.
        geometry: sizes of the image; outputs are upsampled to its padded size.
        thing_ids: the categories that are things.
        decoding: options of finding centres and keeping segments.
    """
    logits = np.ascontiguousarray(semantic_logits)  # the kernel handles values that are not finite
    heat, offsets = finite_array(center), finite_array(offset, nan=0)
    num_categories, height, width = logits.shape
    size, padded_size = geometry.inference_size, geometry.padded_size
    rows = cell_table(height, padded_size[0], decoding.align_corners, size[0])
    columns = cell_table(width, padded_size[1], decoding.align_corners, size[1])
    is_thing = np.isin(np.arange(num_categories), list(thing_ids))

    points, peaks = find_peaks(heat, rows, columns, decoding.threshold, decoding.nms_kernel, decoding.join_peaks)
    if len(points) >= decoding.top_k:
        order = np.argsort(-peaks, kind="stable")[: decoding.top_k]
        if decoding.compat != "panoptic_swiftnet":
            order = np.flatnonzero(peaks > peaks[order[-1]])
        points, peaks = points[order], peaks[order]
    code, areas, votes = group(logits, offsets, rows, columns, is_thing, points)

    # Segments of the result: stuff by category, then things by centre. A code without a segment becomes void.
    stuff = np.flatnonzero(~is_thing & (areas >= decoding.smallest_stuff(size)))
    majority = votes.argmax(axis=1)  # the smallest category on ties
    kept = np.arange(num_categories) == majority[:, None] if decoding.one_category else np.ones_like(votes, dtype=bool)
    things = np.flatnonzero((votes * kept).sum(axis=1) >= max(decoding.thing_area, 1))
    table = np.zeros((1 + len(points), num_categories), dtype=np.int32)
    table[0, stuff] = np.arange(1, len(stuff) + 1)
    table[1 + things] = kept[things] * np.arange(len(stuff) + 1, len(stuff) + len(things) + 1)[:, None]
    semantic = None
    if decoding.parts.is_active:
        semantic = code.copy()
        paint(semantic, np.resize(np.arange(num_categories, dtype=np.int32), table.size))
    paint(code, table.ravel())
    category = np.concatenate([stuff, majority[things]])
    score = np.concatenate([np.ones(len(stuff), dtype=np.float32), np.minimum(peaks[things], np.float32(1))])
    decoded = MapArrays(code, category, score)
    return decoded if semantic is None else apply_parts_cpu(decoded, semantic, is_thing, decoding.parts)
