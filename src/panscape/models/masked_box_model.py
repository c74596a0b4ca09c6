"""The base of networks that detect boxes in one stage and fill them with masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from panscape.models.detection_model import DetectionModel
from panscape.ops.boxes import clip_boxes, has_area, stacked
from panscape.ops.yolo_boxes import YoloBoxes, YoloDetections, select_detections
from panscape.representations.masked_boxes import (
    MASKED_BOX_ORACLES,
    MaskedBoxOutputs,
    MaskedBoxRepresentation,
)
from panscape.representations.regions import RegionTargets


class MaskedBoxModel(DetectionModel):
    """A detector with masks and a semantic segmentation.

    In training, call the model with images and targets: they steer on which boxes masks are trained, nothing else.
    """

    representation: MaskedBoxRepresentation
    takes_targets: ClassVar[bool] = True

    def loss(self, outputs: MaskedBoxOutputs, targets: RegionTargets) -> dict[str, Tensor]:
        """See :meth:`MaskedBoxRepresentation.loss`."""
        return self.representation.loss(outputs, targets, self.labels)

    @property
    def oracles(self) -> tuple[str, ...]:
        """The semantic segmentation, the masks of detections, and all objects."""
        return MASKED_BOX_ORACLES

    def visualize(self, outputs: MaskedBoxOutputs, size: tuple[int, int]) -> dict[str, Tensor]:
        """See :func:`panscape.representations.masked_boxes.panels.draw_panels`."""
        outputs = MaskedBoxOutputs(*(part.detach().cpu() for part in outputs))
        return self.representation.visualize(outputs, size, self.labels)

    def _select(self, boxes: YoloBoxes, image_size: tuple[int, int]) -> list[YoloDetections]:
        """Return the detections of each image, clipped to it; those outside are left out."""
        selection = self.representation.detections
        found = []
        for one in zip(*boxes, strict=True):
            detections = select_detections(
                *one,
                min_score=selection.min_score,
                max_overlap=selection.max_overlap,
                max_detections=selection.max_detections,
                one_category=True,
            )
            # Clipped after NMS, as in Darknet, whose overlaps are those of whole boxes.
            clipped = clip_boxes(detections.boxes, image_size)
            is_inside = has_area(clipped)
            found.append(YoloDetections(*(part[is_inside] for part in detections._replace(boxes=clipped))))
        return found

    def _stack(self, found: Sequence[YoloDetections]) -> YoloDetections:
        """Stack the detections of images, filled up with zeros to the largest number of detections."""
        num = self.representation.detections.max_detections
        return YoloDetections(*(stacked(parts, num) for parts in zip(*found, strict=True)))
