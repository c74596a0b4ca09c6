"""The base of networks of two stages; each adds its parts and its published settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, cast

from torch import Tensor, nn

from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.models.detection_model import DetectionModel
from panscape.models.region_heads import RegionHeads
from panscape.nn.backbones import Backbone
from panscape.nn.fpn import FPN
from panscape.representations.regions import (
    REGION_ORACLES,
    RegionOutputs,
    RegionRepresentation,
    RegionTargets,
)
from panscape.representations.regions.decode import semantic_at_image_size
from panscape.representations.regions.panels import draw_box_targets, draw_panels

STRIDE = 32  # of the coarsest features of the backbone


class RegionModel(DetectionModel):
    """A backbone with an FPN, whose levels propose regions; a semantic head on the FPN or on the backbone.

    In training, call the model with images and targets: they steer which regions are sampled, nothing else.

    Args:
        labels: the label space.
        backbone: features at strides 4 to 32.
        pyramid: levels at the strides of the representation's anchors.
        heads: the two stages.
        semantic: maps features to logits at stride 4.
        representation: anchors, targets, losses and post-processing.
        semantic_from_pyramid: whether the semantic head takes the first four levels of the FPN, or the features of the
            backbone.
        longest_side: see :class:`PanopticModel`.
        test_scale: see :class:`PanopticModel`.
        normalization: see :class:`PanopticModel`.
    """

    representation: RegionRepresentation
    takes_targets: ClassVar[bool] = True

    def __init__(
        self,
        labels: LabelSpace,
        backbone: Backbone,
        pyramid: FPN,
        heads: RegionHeads,
        semantic: nn.Module,
        representation: RegionRepresentation,
        *,
        semantic_from_pyramid: bool,
        longest_side: int | None,
        test_scale: float,
        normalization: str,
    ) -> None:
        super().__init__(labels, STRIDE, longest_side, test_scale, normalization)
        self.representation = representation
        self.backbone = cast(nn.Module, backbone)
        self.pyramid, self.heads, self.semantic = pyramid, heads, semantic
        self._semantic_from_pyramid = semantic_from_pyramid

    def forward(self, images: Tensor, targets: RegionTargets | None = None) -> RegionOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to outputs for the padded size.

        Args:
            images: red, green, blue.
            targets: stacked targets of the images, to sample regions for training; None for detections.
        """
        levels, semantic, size = self._features(images)
        return self._outputs(levels, semantic, size, (images.shape[2], images.shape[3]), targets)

    def _outputs(
        self,
        levels: list[Tensor],
        semantic: Tensor,
        size: tuple[int, int],
        image_size: tuple[int, int],
        targets: RegionTargets | None,
    ) -> RegionOutputs:
        objectness, offsets = self.heads.proposals(levels)
        regions = self.heads.regions(objectness, offsets, size, image_size, self.representation, targets)
        found = self.heads(levels, regions, size, image_size, self.representation, targets)
        return RegionOutputs(semantic, objectness, offsets, *found)

    def classify_regions(self, images: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Run the second stage on given boxes instead of proposals.

        Args:
            images: as for :meth:`forward`.
            regions: xyxy in pixels, float [B, R, 4].

        Returns:
            Category logits, background first, float [B, R, T + 1], and offsets from the regions, times 10, 10, 5 and 5,
            float [B, R, T, 4].
        """
        levels, _, size = self._features(images)
        return self.heads.classify(levels, regions, size)

    def mask_regions(self, images: Tensor, boxes: Tensor, thing: Tensor) -> Tensor:
        """Predict the masks of given boxes.

        Args:
            images: as for :meth:`forward`.
            boxes: xyxy in pixels, float [B, D, 4].
            thing: index of each box's category in ``labels.thing_ids``, int64 [B, D].

        Returns:
            Logits of 28 x 28 cells of each box, float [B, D, 28, 28].
        """
        levels, _, size = self._features(images)
        return self.heads.mask(levels, boxes, thing, size)

    def _features(self, images: Tensor) -> tuple[list[Tensor], Tensor, tuple[int, int]]:
        inputs = self.preprocess(images)
        features = self.backbone(inputs)
        levels = self.pyramid(features)
        semantic = self.semantic(levels[:4] if self._semantic_from_pyramid else features)
        return levels, semantic, (inputs.shape[2], inputs.shape[3])

    def loss(self, outputs: RegionOutputs, targets: RegionTargets) -> dict[str, Tensor]:
        """See :meth:`RegionRepresentation.loss`."""
        return self.representation.loss(outputs, targets, self.labels)

    def decode_semantic(self, outputs: RegionOutputs, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """See :meth:`PanopticModel.decode_semantic`.

        A network that does not tell things apart gives all of them the first thing of the label space.
        """
        size = self.representation.padded_size(outputs)
        geometries = [geometry.padded_to(size) for geometry in geometries]
        everything = replace(self.decoding.fusion, stuff_on_uncovered=False)
        return semantic_at_image_size(
            outputs.semantic, geometries, self.labels, everything, merge_things=self.representation.merge_things
        )

    @property
    def needs_cut_off(self) -> bool:
        """True with the crop-aware box loss."""
        return self.representation.box_loss == "crop_aware"

    @property
    def level_side(self) -> float:
        """See :attr:`RegionRepresentation.level_side`."""
        return self.representation.level_side

    @property
    def oracles(self) -> tuple[str, ...]:
        """The semantic segmentation and the regions."""
        return REGION_ORACLES

    def visualize(self, outputs: RegionOutputs, size: tuple[int, int]) -> dict[str, Tensor]:
        """See :func:`panscape.representations.regions.panels.draw_panels`."""
        return draw_panels(outputs.apply(_on_cpu), size, self.labels, self.representation)

    def visualize_training(self, images: Tensor, targets: RegionTargets) -> dict[str, Tensor]:
        """See :meth:`PanopticModel.visualize_training`: boxes of one crop and what they are compared with."""
        targets = RegionTargets(*(part[:1] for part in targets))
        outputs: RegionOutputs = self(images[:1], targets).apply(_on_cpu)
        targets = RegionTargets(*(part.cpu() for part in targets))
        return {"boxes and their targets": draw_box_targets(images[0].cpu(), outputs, targets, self.representation)}


def _on_cpu(part: Tensor) -> Tensor:
    return part.detach().cpu()
