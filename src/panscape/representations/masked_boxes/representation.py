"""Boxes at anchors, masks in them and a semantic segmentation as a representation: targets, losses, post-processing."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.constraints import (
    BelowOne,
    NonNegative,
    Positive,
    PositiveFraction,
    PositiveInt,
    UnitInterval,
    check_fields,
)
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.nn.losses import global_normalizers, ohem_cross_entropy_per_image
from panscape.ops.cropped_masks import Detections
from panscape.ops.yolo_boxes import ANCHORS, STRIDES, YoloBoxes, cells, decode_cells
from panscape.panoptic import PanopticMap
from panscape.representations.checks import check_category_weights
from panscape.representations.masked_boxes.aligned_loss import aligned_detector_loss, assign_cells
from panscape.representations.masked_boxes.decode import MaskedBoxDecoding, decode_masked_boxes
from panscape.representations.masked_boxes.detector_loss import DetectorLoss, detector_loss
from panscape.representations.masked_boxes.mask_targets import (
    MaskBoxes,
    MaskSampling,
    match_masks,
    sample_mask_boxes,
    sample_mask_cells,
    sum_of_mask_loss,
)
from panscape.representations.masked_boxes.panels import draw_panels
from panscape.representations.masked_boxes.types import MaskedBoxOutputs
from panscape.representations.regions.decode import detect_regions
from panscape.representations.regions.encode import encode_regions
from panscape.representations.regions.losses import objects_of, sample_at_cells
from panscape.representations.regions.oracles import SURE, perfect_masks, perfect_semantic, targets_of_all_objects
from panscape.representations.regions.propose import DetectionSelection
from panscape.representations.regions.types import RegionTargets

MASKED_BOX_ORACLES = ("semantic", "masks", "regions")
"""The parts that :meth:`MaskedBoxRepresentation.decode_with_truth` can replace."""


@dataclass(frozen=True, slots=True)
class MaskedBoxRepresentation:
    """Targets, losses and post-processing; targets are those of regions. Defaults are those of the thesis and YOLOv3.

    Attributes:
        anchors: Width and height of the anchors in pixels, of strides 8, 16 and 32; by default YOLOv3's for COCO.
        anchors_from_data: Replace the anchors, when a training begins, by as many that are estimated from the objects
            of its training images.
        assignment: Which anchors an object trains: "best_anchor", the one of YOLOv3, with its losses and boxes whose
            centres lie in their cells; or "aligned", the cells that predict it best, with one anchor for each stride,
            which is only the initial size, and boxes with any centre.
        cells_per_object: Largest number of cells that an object trains, with "aligned".
        train_detector: Train the detector. Without it, as in the thesis, its losses are left out.
        mask_sampling: Assignment and sampling of the boxes of masks.
        detections: Selection of detections. YOLOv3's overlap; each box has one category.
        ignore_iou: IoU with an object from which on an anchor's box is not background.
        smallest_share: Objects whose width or height is a smaller share of the input's do not train the detector.
        max_crowd: Share of an anchor's box from which on it is no background, if so much of it is ignored.
        max_objects: Number of objects of an image that are kept; the smallest others are ignored.
        category_weights: Weight of each category in the semantic loss, to emphasise thin and rare categories; empty for
            equal weights.
        hard_pixel_fraction: Share of hardest pixels of each image in the semantic loss.
        box_loss_weight: Weight of the detector's box loss.
        objectness_loss_weight: Weight of the detector's objectness loss.
        category_loss_weight: Weight of the detector's classification.
        mask_loss_weight: Weight of the mask loss.
        semantic_loss_weight: Weight of the semantic loss.
        decoding: Post-processing options.

    Raises:
        InvalidArgumentError: a value is out of range, the strides have different numbers of anchors, or several with
            "aligned"; or the anchors of a detector that is not trained come from the data.
    """

    anchors: tuple[tuple[tuple[Positive, Positive], ...], ...] = ANCHORS
    anchors_from_data: bool = False
    assignment: Literal["best_anchor", "aligned"] = "best_anchor"
    cells_per_object: PositiveInt = 10
    train_detector: bool = True
    mask_sampling: MaskSampling = field(default_factory=MaskSampling)
    detections: DetectionSelection = field(default_factory=lambda: DetectionSelection(max_overlap=0.45))
    ignore_iou: UnitInterval = 0.7
    smallest_share: BelowOne = 0.001
    max_crowd: UnitInterval = 0.7
    max_objects: PositiveInt = 90
    category_weights: tuple[float, ...] = ()
    hard_pixel_fraction: PositiveFraction = 1.0
    box_loss_weight: NonNegative = 1.0
    objectness_loss_weight: NonNegative = 1.0
    category_loss_weight: NonNegative = 1.0
    mask_loss_weight: NonNegative = 0.1
    semantic_loss_weight: NonNegative = 1.0
    decoding: MaskedBoxDecoding = field(default_factory=MaskedBoxDecoding)

    def __post_init__(self) -> None:
        check_fields(self)
        check_category_weights(self.category_weights)
        numbers = {len(stride) for stride in self.anchors}
        if len(self.anchors) != len(STRIDES) or len(numbers) != 1 or 0 in numbers:
            raise InvalidArgumentError(
                f"expected the same number of anchors for each of the strides {STRIDES}, got "
                f"{[len(stride) for stride in self.anchors]}"
            )
        if self.assignment == "aligned" and numbers != {1}:
            raise InvalidArgumentError(
                f'expected one anchor for each stride with assignment "aligned", got {numbers.pop()}'
            )
        if self.anchors_from_data and not self.train_detector:
            raise InvalidArgumentError(
                "expected anchors_from_data False with train_detector False, got True; a detector has the anchors that "
                "it was trained with"
            )

    def encode(self, truth: PanopticMap, labels: LabelSpace, padded_to: tuple[int, int]) -> RegionTargets:
        """Encode a ground truth; see :func:`panscape.representations.regions.encode.encode_regions`.

        Raises:
            InvalidArgumentError: as there, or the number of :attr:`category_weights` is not that of categories.
        """
        check_category_weights(self.category_weights, labels)
        return encode_regions(truth, labels, padded_to, self.max_objects)

    def sample_mask_boxes(
        self, boxes: Sequence[Tensor], categories: Sequence[Tensor], targets: RegionTargets
    ) -> MaskBoxes:
        """See :func:`panscape.representations.masked_boxes.mask_targets.sample_mask_boxes`."""
        return sample_mask_boxes(boxes, categories, targets, self.mask_sampling)

    def sample_mask_cells(self, logits: Tensor, targets: RegionTargets) -> tuple[MaskBoxes, Tensor]:
        """Sample cells that "aligned" assigns to objects.

        Args:
            logits: of the detector, float [B, N, 5 + T].
            targets: of the images.

        Returns:
            See :func:`panscape.representations.masked_boxes.mask_targets.sample_mask_cells`.
        """
        cell = self.cells((targets.semantic.shape[1], targets.semantic.shape[2]), logits.device)
        assigned = assign_cells(
            logits.detach().float(),
            cell,
            targets,
            cells_per_object=self.cells_per_object,
            smallest_share=self.smallest_share,
        )
        return sample_mask_cells(assigned, targets, self.mask_sampling)

    def loss(self, outputs: MaskedBoxOutputs, targets: RegionTargets, labels: LabelSpace) -> dict[str, Tensor]:
        """Compare outputs with stacked targets; the total is the sum of the values.

        If processes share a batch, all must call this equally often: see :func:`panscape.nn.losses.global_normalizers`.

        Args:
            outputs: of a forward pass that received these targets.
            targets: each with a first axis B.
            labels: label space, which defines things and stuff.

        Returns:
            "mask" and "semantic", and with :attr:`train_detector` "box", "objectness" and "category". Each is finite
            and has a gradient path to its outputs, whatever the ground truth.

        Raises:
            InvalidArgumentError: outputs and targets are of different sizes.
        """
        outputs = MaskedBoxOutputs(*(t.float() if t.is_floating_point() else t for t in outputs))
        size = (targets.semantic.shape[1], targets.semantic.shape[2])
        if len(outputs.semantic) != len(targets.semantic) or self.padded_size(outputs) != size:
            raise InvalidArgumentError(
                f"expected outputs of {len(targets.semantic)} images of {size[0]}x{size[1]} pixels, got semantic "
                f"logits {list(outputs.semantic.shape)} and {outputs.detector.shape[1]} anchors; encode the same crop "
                "that entered the network"
            )
        mask, num_cells = sum_of_mask_loss(
            outputs.masks,
            MaskBoxes(outputs.mask_boxes, outputs.mask_category),
            targets,
            self.mask_sampling.min_iou,
        )
        (num_cells,) = global_normalizers(num_cells[None])
        whole = F.interpolate(outputs.semantic, size=size, mode="bilinear", align_corners=False)
        semantic = ohem_cross_entropy_per_image(
            whole, targets.semantic, self.hard_pixel_fraction, self.category_weights
        )
        losses = {
            "mask": self.mask_loss_weight * (mask / num_cells),
            "semantic": self.semantic_loss_weight * semantic,
        }
        if not self.train_detector:
            return losses
        detector = self._detector_loss(outputs.detector, targets, size, len(labels.thing_ids))
        return losses | {
            "box": self.box_loss_weight * detector.box,
            "objectness": self.objectness_loss_weight * detector.objectness,
            "category": self.category_loss_weight * detector.category,
        }

    def _detector_loss(
        self, logits: Tensor, targets: RegionTargets, size: tuple[int, int], num_things: int
    ) -> DetectorLoss:
        cell = self.cells(size, logits.device)
        smallest_share, max_crowd = self.smallest_share, self.max_crowd
        if self.assignment == "aligned":
            return aligned_detector_loss(
                logits,
                cell,
                targets,
                num_things,
                cells_per_object=self.cells_per_object,
                smallest_share=smallest_share,
                max_crowd=max_crowd,
            )
        return detector_loss(
            logits,
            cell,
            targets,
            num_things,
            ignore_iou=self.ignore_iou,
            smallest_share=smallest_share,
            max_crowd=max_crowd,
        )

    def detector_boxes(self, logits: Tensor, size: tuple[int, int]) -> YoloBoxes:
        """Return boxes and probabilities of all anchors.

        Args:
            logits: of the detector, float [B, N, 5 + C].
            size: height and width of the padded input.
        """
        cell = self.cells(size, logits.device)
        return decode_cells(logits, cell, centers_in_cells=self.assignment == "best_anchor")

    def cells(self, size: tuple[int, int], device: torch.device | None = None) -> Tensor:
        """Return :func:`~panscape.ops.yolo_boxes.cells` of a padded input of this height and width, float [N, 5]."""
        levels = [(size[0] // stride, size[1] // stride) for stride in STRIDES]
        return cells(levels, torch.tensor(self.anchors, dtype=torch.float32, device=device))

    def decode(
        self, outputs: MaskedBoxOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace
    ) -> list[PanopticMap]:
        """Decode outputs; see :func:`panscape.representations.masked_boxes.decode.decode_masked_boxes`."""
        return decode_masked_boxes(outputs, self._padded(outputs, geometries), labels, self.decoding)

    def detect(
        self, outputs: MaskedBoxOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace
    ) -> list[Detections]:
        """Return the objects before fusion; see :func:`panscape.representations.regions.decode.detect_regions`."""
        return detect_regions(outputs, self._padded(outputs, geometries), labels, self.decoding.mask_threshold)

    def decode_with_truth(
        self, outputs: MaskedBoxOutputs, truth: PanopticMap, parts: Collection[str], labels: LabelSpace
    ) -> PanopticMap:
        """Decode the map of one image with parts of the outputs replaced by ground truth.

        Args:
            outputs: a batch of one.
            truth: ground truth of the image, at the size at which it entered the network, on any device.
            parts: some of :data:`MASKED_BOX_ORACLES`: "semantic" for the category of every pixel that has one, "masks"
                for the masks of detected boxes that match an object, "regions" for the boxes, categories and masks of
                all objects, with as many cells as the network's masks. If empty, this is :meth:`decode`.
            labels: label space, which defines things and stuff.
        """
        device, padded_size = outputs.semantic.device, self.padded_size(outputs)
        targets = targets_of_all_objects(truth, labels, device)
        if "regions" in parts:
            outputs = outputs._replace(**perfect_masks(targets, outputs.masks.shape[-1]))
            outputs = outputs._replace(mask_objectness=outputs.mask_score)
        elif "masks" in parts:
            outputs = self._with_true_masks(outputs, targets)
        if "semantic" in parts:
            every = torch.arange(len(labels), device=device)
            perfect = perfect_semantic(outputs.semantic, padded_size, targets.semantic - 1, every)
            outputs, padded_size = outputs._replace(semantic=perfect), truth.size
        geometry = ImageGeometry.of(truth.size, padded_size=padded_size)
        return decode_masked_boxes(outputs, [geometry], labels, self.decoding)[0]

    def _with_true_masks(self, outputs: MaskedBoxOutputs, targets: RegionTargets) -> MaskedBoxOutputs:
        (objects,) = objects_of(targets)
        boxes = outputs.mask_boxes[0]
        matched = match_masks(boxes, outputs.mask_category[0], objects, self.mask_sampling.min_iou)
        segment = sample_at_cells(targets.segment[0], boxes, outputs.masks.shape[-1])
        true = torch.where(segment == matched[:, None, None] + 1, SURE, -SURE)
        return outputs._replace(masks=torch.where(matched[:, None, None] >= 0, true, outputs.masks[0])[None])

    def visualize(self, outputs: MaskedBoxOutputs, size: tuple[int, int], labels: LabelSpace) -> dict[str, Tensor]:
        """Visualise outputs; see :func:`panscape.representations.masked_boxes.panels.draw_panels`."""
        padded = self.padded_size(outputs)
        return draw_panels(
            outputs, ImageGeometry.of(size, padded_size=padded), self.cells(padded), labels, self.decoding
        )

    def padded_size(self, outputs: MaskedBoxOutputs) -> tuple[int, int]:
        """Return the height and width of the padded input of these outputs, from the numbers of anchors and cells."""
        height, width = outputs.semantic.shape[-2:]
        num_pixels = outputs.detector.shape[1] / (len(self.anchors[0]) * sum(stride**-2 for stride in STRIDES))
        stride = round(math.sqrt(num_pixels / (height * width)))
        return stride * height, stride * width

    def _padded(self, outputs: MaskedBoxOutputs, geometries: Sequence[ImageGeometry]) -> list[ImageGeometry]:
        return [geometry.padded_to(self.padded_size(outputs)) for geometry in geometries]
