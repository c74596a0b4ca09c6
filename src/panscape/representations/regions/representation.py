"""Objects as regions with masks: a first stage proposes boxes, a second one classifies, refines and fills them.

The representation of two-stage networks for panoptic segmentation: Seamless Scene Segmentation (Porzi et al., CVPR
2019), Improving Panoptic Segmentation at All Scales (Porzi et al., CVPR 2021) and Panoptic FPN (Kirillov et al., CVPR
2019). Published code differs in many details, which are options; see docs/models/all_scales.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.constraints import NonNegative, Positive, PositiveFraction, PositiveInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.nn.losses import global_normalizers, ohem_cross_entropy_per_image
from panscape.ops.cropped_masks import Detections
from panscape.panoptic import PanopticMap
from panscape.representations.regions.anchors import Anchors
from panscape.representations.regions.decode import (
    RegionDecoding,
    decode_regions,
    detect_regions,
    semantic_categories,
)
from panscape.representations.regions.encode import encode_regions
from panscape.representations.regions.losses import (
    BoxLoss,
    StageSampling,
    first_stage_loss,
    second_stage_loss,
    sum_of_mask_loss,
)
from panscape.representations.regions.match import BestOfEach
from panscape.representations.regions.oracles import perfect_masks, perfect_semantic, targets_of_all_objects
from panscape.representations.regions.propose import DetectionSelection, ProposalSelection
from panscape.representations.regions.types import RegionOutputs, RegionTargets

REGION_ORACLES = ("semantic", "regions")
"""The parts that :meth:`RegionRepresentation.decode_with_truth` can replace."""


@dataclass(frozen=True, slots=True)
class RegionRepresentation:
    """Targets, losses and post-processing. Defaults are those of Seamless for Cityscapes, with its ordinary box loss.

    Attributes:
        anchors: Anchors of the first stage.
        first_stage: Assignment and sampling of anchors.
        second_stage: Assignment and sampling of proposals.
        proposals: Selection of proposals.
        detections: Selection of detections.
        box_loss: "ordinary", smooth L1 to the visible box, or "crop_aware" (CABB).
        best_anchors: Which anchors are positive because they overlap an object most: "one", the first of those with the
            largest IoU (seamseg), or "all" (detectron2), which trains more of them on small objects.
        inside_only: Train only anchors that lie inside the image, not partly in its padding.
        max_crowd: Share of a box from which on it is not trained, if so much of it is ignored.
        second_stage_of_empty: Train the second stage on images without objects, where everything is background.
        merge_things: Whether the semantic logits have one channel for all things, the first, followed by the stuff
            (Panoptic FPN), instead of one for each category. Then ``leftover_area`` has no effect.
        level_side: Side of a square region, in pixels, from which on its features have stride 8 instead of 4, and for
            each doubling twice the stride. Images much smaller than 1000 pixels need a shorter one.
        max_objects: Number of objects of an image that are kept; the smallest others are ignored.
        hard_pixel_fraction: Share of hardest pixels of each image in the semantic loss.
        objectness_loss_weight: Weight of the first stage's classification.
        anchor_loss_weight: Weight of the first stage's box loss.
        category_loss_weight: Weight of the second stage's classification.
        region_loss_weight: Weight of the second stage's box loss.
        mask_loss_weight: Weight of the mask loss.
        semantic_loss_weight: Weight of the semantic loss.
        first_stage_weight: Weight of the losses on the outputs before relations, if a network has them: gamma of PISR.
            That paper gives no value; 0.4 is that of object-contextual representations (OCR).
        decoding: Post-processing options.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    anchors: Anchors = field(default_factory=lambda: Anchors(ratios=(1.0, 0.5, 2.0)))
    first_stage: StageSampling = field(default_factory=StageSampling)
    second_stage: StageSampling = field(default_factory=lambda: StageSampling(512, 0.25, 0.5, 0.5, 1.0))
    proposals: ProposalSelection = field(default_factory=ProposalSelection)
    detections: DetectionSelection = field(default_factory=DetectionSelection)
    box_loss: BoxLoss = "ordinary"
    best_anchors: BestOfEach = "one"
    inside_only: bool = True
    max_crowd: UnitInterval = 0.7
    second_stage_of_empty: bool = False
    merge_things: bool = False
    level_side: Positive = 112.0
    max_objects: PositiveInt = 400
    hard_pixel_fraction: PositiveFraction = 0.25
    objectness_loss_weight: NonNegative = 1.0
    anchor_loss_weight: NonNegative = 1.0
    category_loss_weight: NonNegative = 1.0
    region_loss_weight: NonNegative = 1.0
    mask_loss_weight: NonNegative = 1.0
    semantic_loss_weight: NonNegative = 1.0
    first_stage_weight: NonNegative = 0.4
    decoding: RegionDecoding = field(default_factory=RegionDecoding)

    def __post_init__(self) -> None:
        check_fields(self)

    def encode(self, truth: PanopticMap, labels: LabelSpace, padded_to: tuple[int, int]) -> RegionTargets:
        """Encode a ground truth; see :func:`panscape.representations.regions.encode.encode_regions`."""
        return encode_regions(truth, labels, padded_to, self.max_objects)

    def num_regions(self, *, training: bool) -> tuple[int, int]:
        """Return the numbers of regions and of masks of each image in the outputs, with or without targets."""
        if not training:
            return self.proposals.after_nms, self.detections.max_detections
        return self.second_stage.num, max(1, int(self.second_stage.num * self.second_stage.positive_share))

    def num_semantic_channels(self, labels: LabelSpace) -> int:
        """Return the number of channels of the semantic logits."""
        return 1 + len(labels.stuff_ids) if self.merge_things else len(labels)

    def loss(self, outputs: RegionOutputs, targets: RegionTargets, labels: LabelSpace) -> dict[str, Tensor]:
        """Compare outputs with stacked targets; the total is the sum of the values.

        If processes share a batch, all must call this equally often: see :func:`panscape.nn.losses.global_normalizers`.

        Args:
            outputs: of a forward pass that received these targets.
            targets: each with a first axis B.
            labels: label space, which defines things and stuff.

        Returns:
            "objectness", "anchor", "category", "region", "mask" and "semantic". With relations, all of these before
            them, times ``first_stage_weight``, as "first_objectness" and so on, and the last four after them: both
            take the same proposals. Each is finite and has a gradient path to its outputs, whatever the ground truth.

        Raises:
            InvalidArgumentError: outputs and targets are of different sizes.
        """
        first = outputs if outputs.first_stage is None else outputs.first_stage
        losses = self._proposal_losses(first, targets) | self._region_losses(first, targets, labels)
        if outputs.first_stage is None:
            return losses
        first_losses = {f"first_{name}": self.first_stage_weight * loss for name, loss in losses.items()}
        return self._region_losses(outputs, targets, labels) | first_losses

    def _proposal_losses(self, outputs: RegionOutputs, targets: RegionTargets) -> dict[str, Tensor]:
        size = (targets.semantic.shape[1], targets.semantic.shape[2])
        anchors = self.anchors.boxes(size, outputs.objectness.device)
        if len(outputs.objectness) != len(targets.semantic) or outputs.objectness.shape[1] != len(anchors):
            raise InvalidArgumentError(
                f"expected outputs of {len(targets.semantic)} images of {size[0]}x{size[1]} pixels with "
                f"{len(anchors)} anchors, got {list(outputs.objectness.shape)}; encode the same crop that entered the "
                "network"
            )
        found = first_stage_loss(
            outputs.objectness.float(),
            outputs.anchor_offsets.float(),
            anchors,
            targets,
            self.first_stage,
            self.box_loss,
            best_anchors=self.best_anchors,
            inside_only=self.inside_only,
            max_crowd=self.max_crowd,
        )
        (num,) = global_normalizers(found.num[None])
        return {
            "objectness": self.objectness_loss_weight * (found.category / num),
            "anchor": self.anchor_loss_weight * (found.box / num),
        }

    def _region_losses(self, outputs: RegionOutputs, targets: RegionTargets, labels: LabelSpace) -> dict[str, Tensor]:
        outputs = outputs.apply(lambda t: t.float() if t.is_floating_point() else t)
        found = second_stage_loss(
            outputs.category, outputs.region_offsets, outputs.regions, targets, self.second_stage, self.box_loss
        )
        mask, num_cells = sum_of_mask_loss(outputs.masks, outputs.mask_boxes, targets, self.second_stage)
        num_regions, num_cells = global_normalizers(torch.stack([found.num, num_cells]))
        return {
            "category": self.category_loss_weight * (found.category / num_regions),
            "region": self.region_loss_weight * (found.box / num_regions),
            "mask": self.mask_loss_weight * (mask / num_cells),
            "semantic": self.semantic_loss_weight * self._semantic_loss(outputs.semantic, targets.semantic, labels),
        }

    def _semantic_loss(self, logits: Tensor, target: Tensor, labels: LabelSpace) -> Tensor:
        size = (target.shape[1], target.shape[2])
        whole = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        categories = semantic_categories(logits, labels, merge_things=self.merge_things)
        channel = torch.zeros(len(labels) + 1, dtype=torch.int64, device=logits.device)
        if self.merge_things:
            channel[1:] = 1
        channel[1 + categories] = torch.arange(1, len(categories) + 1, device=logits.device)
        return ohem_cross_entropy_per_image(whole, channel[target], self.hard_pixel_fraction)

    def decode(
        self, outputs: RegionOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace
    ) -> list[PanopticMap]:
        """Decode outputs into one map per image; see :func:`panscape.representations.regions.decode.decode_regions`."""
        return decode_regions(
            outputs, self._padded(outputs, geometries), labels, self.decoding, merge_things=self.merge_things
        )

    def detect(
        self, outputs: RegionOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace
    ) -> list[Detections]:
        """Return the objects before fusion; see :func:`panscape.representations.regions.decode.detect_regions`."""
        return detect_regions(outputs, self._padded(outputs, geometries), labels, self.decoding.mask_threshold)

    def decode_with_truth(
        self, outputs: RegionOutputs, truth: PanopticMap, parts: Collection[str], labels: LabelSpace
    ) -> PanopticMap:
        """Decode the map of one image with parts of the outputs replaced by ground truth.

        Args:
            outputs: a batch of one.
            truth: ground truth of the image, at the size at which it entered the network, on any device.
            parts: some of :data:`REGION_ORACLES`: "semantic" for the category of every pixel that has one, "regions"
                for the boxes, categories and masks of all objects, with as many cells as the network's masks. If empty,
                this is :meth:`decode`.
            labels: label space, which defines things and stuff.
        """
        device, padded_size = outputs.semantic.device, self.padded_size(outputs)
        targets = targets_of_all_objects(truth, labels, device)
        if "regions" in parts:
            outputs = outputs._replace(**perfect_masks(targets, outputs.masks.shape[-1]))
        if "semantic" in parts:
            categories = semantic_categories(outputs.semantic, labels, merge_things=self.merge_things)
            known = targets.semantic - 1
            is_thing = torch.isin(known, torch.tensor(labels.thing_ids, device=device))
            if self.merge_things:
                known = torch.where(is_thing, categories[0], known)
            outputs = outputs._replace(semantic=perfect_semantic(outputs.semantic, padded_size, known, categories))
            padded_size = truth.size
        geometry = ImageGeometry.of(truth.size, padded_size=padded_size)
        return decode_regions(outputs, [geometry], labels, self.decoding, merge_things=self.merge_things)[0]

    def padded_size(self, outputs: RegionOutputs) -> tuple[int, int]:
        """Return the height and width of the padded input of these outputs, whose semantic logits are at a quarter."""
        height, width = (4 * side for side in outputs.semantic.shape[-2:])
        return height, width

    def _padded(self, outputs: RegionOutputs, geometries: Sequence[ImageGeometry]) -> list[ImageGeometry]:
        return [geometry.padded_to(self.padded_size(outputs)) for geometry in geometries]
