"""Decode detected boxes with masks and a semantic segmentation into panoptic maps.

Diaz-Zapata, "YOLO-Based Panoptic Segmentation" (MSc thesis, 2020), Section 3.4: where objects overlap, the one
with the highest objectness gets the pixel; objects cover stuff; small stuff is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from panscape.constraints import check_fields
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.ops.boxes import has_area
from panscape.panoptic import PanopticMap
from panscape.representations.fusion import FusionConfig, fuse_instances
from panscape.representations.masked_boxes.types import MaskedBoxOutputs
from panscape.representations.regions.decode import (
    MaskThreshold,
    detect_regions,
    score_of,
    semantic_at_image_size,
)


@dataclass(frozen=True, slots=True)
class MaskedBoxDecoding:
    """Options of decoding masked boxes.

    Attributes:
        mask_threshold: Minimum probability of a pixel of an object's mask, 0.5..1.
        overlap_by: Which object gets a pixel of several: the one with the highest "objectness", as in the thesis, or
            "score", objectness times the category's probability.
        resize: What is resized to the image's size if the network saw it at another one: "outputs", semantic logits,
            boxes and mask probabilities; or "map", the map, by nearest neighbour; areas are then in pixels of the
            network's input.
        fusion: Rules for the fusion of objects and stuff into a map. By default no object is dropped for its overlap;
            the smallest area of stuff, which the thesis does not give, is that of 4096 of 1024x2048 pixels.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    mask_threshold: MaskThreshold = 0.5
    overlap_by: Literal["objectness", "score"] = "objectness"
    resize: Literal["outputs", "map"] = "outputs"
    fusion: FusionConfig = field(
        default_factory=lambda: FusionConfig(max_overlap=1.0, stuff_area=0, stuff_share=4096 / (1024 * 2048))
    )

    def __post_init__(self) -> None:
        check_fields(self)


def decode_masked_boxes(
    outputs: MaskedBoxOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace, decoding: MaskedBoxDecoding
) -> list[PanopticMap]:
    """Decode outputs into one map per image, at the image's own size.

    Arguments and errors are those of :func:`~panscape.representations.regions.decode.detect_regions` and
    :func:`~panscape.representations.regions.decode.semantic_at_image_size`.
    """
    min_score = decoding.fusion.min_score
    detections = detect_regions(outputs, geometries, labels, decoding.mask_threshold, min_score)
    semantic = semantic_at_image_size(outputs.semantic, geometries, labels, decoding.fusion, merge_things=False)
    maps = []
    for b, (one, category) in enumerate(zip(detections, semantic, strict=True)):
        priority = None
        if decoding.overlap_by == "objectness":
            rows = has_area(outputs.mask_boxes[b].float()) & (score_of(outputs, b) >= min_score)
            priority = outputs.mask_objectness[b, rows].detach().float().nan_to_num(0)
        maps.append(fuse_instances(one.masks, one.category, one.score, category, labels, decoding.fusion, priority))
    return maps
