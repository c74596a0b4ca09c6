"""Annotations of ADE20K with 150 categories (SceneParse150): a semantic map, and objects of 100 categories.

Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017; the published files of the scene parsing and the
instance segmentation challenge; combined by the rules of MaskFormer's ``prepare_ade20k_pan_seg.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidAnnotationError, listed
from panscape.formats.coco import coco_ids
from panscape.formats.segments_info import IdRuns, SegmentInfo, map_from_id_image
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

_FIRST_OBJECT = 256  # numbers below are categories of the semantic map


def decode_ade20k(semantic: NDArray[Any], instances: NDArray[np.uint8] | None, labels: LabelSpace) -> PanopticMap:
    """Convert annotations of ADE20K to a map.

    Objects cover stuff, and things of the semantic map that are no object are void, as published.

    Args:
        semantic: integers [H, W] of ``annotations``: source id + 1; 0 is void.
        instances: of ``annotations_instance``, uint8 [H, W, 3]: red is 1 + position among the things of ``labels``,
            green the number of the object in the image, or 0 for none. None for a map of one segment per category.
        labels: the 150 categories.

    Returns:
        A map with stuff first, both in the order of the numbers.

    Raises:
        InvalidAnnotationError: the sizes differ, or a number is no category.
    """
    numbers = semantic.astype(np.int32)
    if instances is not None:
        if instances.shape[:2] != semantic.shape:
            sizes = ["x".join(map(str, part.shape[:2])) for part in (semantic, instances)]
            raise InvalidAnnotationError(f"expected objects of {sizes[0]} pixels like the semantic map, got {sizes[1]}")
        objects = coco_ids(instances) % _FIRST_OBJECT**2
        numbers = np.where(objects >= _FIRST_OBJECT, objects, numbers)
    segments, unknown = [], []
    runs = IdRuns.of(numbers)
    for number in runs.numbers.tolist():
        if number == 0:
            continue
        is_object, red = number >= _FIRST_OBJECT, number % _FIRST_OBJECT
        if is_object:
            category = labels.thing_ids[red - 1] if 0 < red <= len(labels.thing_ids) else None
        else:
            category = labels.id_of_source.get(number - 1)
        if category is None:
            unknown.append(red)
        elif is_object or instances is None or not labels[category].is_thing:
            segments.append(SegmentInfo(number, category))
    if unknown:
        of_objects = "" if instances is None else f", and 1..{len(labels.thing_ids)} in annotations_instance"
        raise InvalidAnnotationError(
            f"expected categories 1..{len(labels)} in annotations{of_objects}, got {listed(sorted(unknown))}; give the "
            "files of ADEChallengeData2016, not the full ADE20K"
        )
    return map_from_id_image(runs, segments)[0]
