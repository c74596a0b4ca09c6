"""The result type of detectron2's panoptic models, plain tensors and dicts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from panscape.errors import InvalidMapError
from panscape.panoptic import PanopticMap


def to_detectron2(panoptic: PanopticMap) -> tuple[Tensor, list[dict[str, Any]]]:
    """Convert a map to the pair ``panoptic_seg, segments_info`` of detectron2.

    detectron2's own datasets number things and stuff separately; here ``category_id`` is the category id, for metadata
    whose ``thing_classes`` and ``stuff_classes`` both list all categories, as in its Panoptic-DeepLab.

    Returns:
        int32 [H, W] with 0 for void; and for each segment with pixels ``id``, ``isthing``, ``category_id``, ``area``,
        ``score`` if the map has scores, and for things ``instance_id``, from 0 on within the category.

    Raises:
        InvalidMapError: the map has no labels, so that things and stuff are unknown.
    """
    if panoptic.labels is None:
        raise InvalidMapError("expected a map with labels, which say what is a thing, got one without")
    segments: list[dict[str, Any]] = []
    num_instances: dict[int, int] = {}
    for segment in panoptic:
        if not segment.area:
            continue
        entry: dict[str, Any] = {
            "id": segment.id,
            "isthing": bool(segment.is_thing),
            "category_id": segment.category,
            "area": segment.area,
        }
        if segment.score is not None:
            entry["score"] = segment.score
        if segment.is_thing:
            entry["instance_id"] = num_instances.get(segment.category, 0)
            num_instances[segment.category] = entry["instance_id"] + 1
        segments.append(entry)
    return panoptic.ids, segments
