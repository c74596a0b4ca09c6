"""Maps in COCO panoptic format as arrays, and its categories; :mod:`panscape.formats.coco` has all of the format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError
from panscape.formats.source_ids import source_ids
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays

LARGEST_ID = 256**3 - 1
"""Largest id of a segment: three bytes."""


def coco_arrays(panoptic: MapArrays, labels: LabelSpace | None) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """Convert a map; arguments, result and errors are those of :func:`panscape.formats.encode_coco`."""
    if panoptic.num_segments > LARGEST_ID:
        raise InvalidArgumentError(
            f"three bytes allow at most {LARGEST_ID} segments, got {panoptic.num_segments}; split the map into tiles"
        )
    source = source_ids(panoptic, labels)
    areas, boxes = panoptic.extents()
    crowd = [False] * len(source) if panoptic.crowd is None else panoptic.crowd.tolist()
    scores = None if panoptic.score is None else panoptic.score.tolist()
    segments: list[dict[str, Any]] = []
    for row, (category_id, area, (left, top, right, bottom)) in enumerate(
        zip(source, areas.tolist(), boxes.tolist(), strict=True)
    ):
        if area == 0:
            continue
        segment = {
            "id": row + 1,
            "category_id": category_id,
            "area": area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": int(crowd[row]),
        }
        if scores is not None:
            segment["score"] = scores[row]
        segments.append(segment)
    ids, rgb = panoptic.ids, np.zeros((*panoptic.size, 3), np.uint8)
    for byte in range(3):
        if panoptic.num_segments >= 256**byte:  # most maps have one byte only
            rgb[..., byte] = ids if byte == 0 else ids >> 8 * byte  # the cast keeps the lowest byte
    return rgb, segments


def coco_categories(labels: LabelSpace) -> list[dict[str, Any]]:
    """Return the ``categories`` of a COCO panoptic JSON."""
    return [
        {"id": c.source_id, "name": c.name, "supercategory": c.name, "isthing": int(c.is_thing), "color": list(c.color)}
        for c in labels
    ]
