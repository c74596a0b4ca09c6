"""Options of decoding dense boxes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from panscape.constraints import PositiveInt, UnitInterval, check_fields
from panscape.geometry import ImageGeometry
from panscape.representations.dense_boxes.locations import argmax_level
from panscape.representations.dense_boxes.select_boxes import BoxSelection
from panscape.representations.fusion import FusionConfig

MaskCompat = Literal["released", "paper"]


@dataclass(frozen=True, slots=True)
class DenseBoxDecoding:
    """Options of decoding dense boxes; the defaults are those of the released code.

    Paper and released code differ, and ``compat`` selects one of them:

    * "released", the code: masks by a smoothed generalised IoU; each cell takes the box of some level, even if no
      object is most probable; near duplicates of any category are dropped.
    * "paper": masks by plain IoU (Equation 6), M > threshold (Equation 7); a cell without an object has no box
      (Equation 14); objects of different categories do not suppress each other.

    Attributes:
        compat: Rules to follow where paper and code differ: "released", those of the released code, or "paper".
        score_threshold: Minimum probability of a category at a location, exclusive, 0..1.
        pre_nms_top_k: Maximum number of candidates of a level.
        nms_iou: IoU threshold of NMS within a category, 0..1.
        class_agnostic_nms_iou: IoU threshold of NMS across categories, 0..1; not for "paper".
        max_detections: Maximum number of objects, except those with the same score as the last one.
        mask_threshold: Minimum probability of a pixel of an object's mask, 0..1.
        resize: What is resized to the image's size if the network saw it at another one: "map", the map, by nearest
            neighbour; "outputs", semantic logits and mask probabilities, bilinearly, for smooth edges. Ours. Areas in
            ``fusion`` are in pixels of the network's input either way.
        fusion: Rules for the fusion of objects and stuff into a map. Scores are products of two probabilities and lower
            than those of other detectors, so that a min_score below 0.5 is often better; neither paper nor code has
            one.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    compat: MaskCompat = "released"
    score_threshold: UnitInterval = 0.06
    pre_nms_top_k: PositiveInt = 1000
    nms_iou: UnitInterval = 0.6
    class_agnostic_nms_iou: UnitInterval = 0.97
    max_detections: PositiveInt = 100
    mask_threshold: UnitInterval = 0.4
    resize: Literal["map", "outputs"] = "map"
    fusion: FusionConfig = field(default_factory=FusionConfig)

    def __post_init__(self) -> None:
        check_fields(self)

    def at_image_size(self, geometry: ImageGeometry) -> DenseBoxDecoding:
        """Return the options with areas in pixels of the image instead of the network's input."""
        ratio = geometry.size.area / geometry.inference_size.area
        return replace(self, fusion=self.fusion.at_ratio(ratio))

    @property
    def selection(self) -> BoxSelection:
        """Options of selecting objects among the predicted boxes."""
        return BoxSelection(
            threshold=self.score_threshold,
            pre_nms_top_k=self.pre_nms_top_k,
            nms_iou=self.nms_iou,
            class_agnostic_nms_iou=self.class_agnostic_nms_iou if self.compat == "released" else 1.0,
            max_boxes=self.max_detections,
        )

    def levels(self, levelness: Tensor | None) -> Tensor | None:
        """Return the level whose box each cell takes, int64 [B, 2h, 2w], -1 for none; None without levelness.

        Args:
            levelness: logits, float [B, 1 + levels, 2h, 2w], channel 0 for no object, or None; receives no gradient.
        """
        if levelness is None:
            return None
        return argmax_level(levelness.detach(), with_background=self.compat == "paper")
