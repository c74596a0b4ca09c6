"""Categories of pixels as a representation of segments: outputs, targets, losses and post-processing.

A map has one segment for each category. It is the semantic segmentation of the image as a panoptic map: exact for a
label space of stuff only; all objects of one category of things are one segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.constraints import NonNegative, PositiveFraction, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry, require_fits
from panscape.labels import LabelSpace
from panscape.nn.losses import ohem_cross_entropy
from panscape.ops.argmax import argmax_at_image_size
from panscape.panoptic import PanopticMap
from panscape.representations.checks import check_categories


class SemanticOutputs(NamedTuple):
    """Network outputs for a padded input [H, W].

    Iterate over :attr:`tensors` for those that are decoded, as the other may be missing.

    Attributes:
        semantic: category logits, float [B, K, h, w].
        auxiliary: those of an auxiliary head, used only by losses, float [B, K, h', w']; networks return them in
            training, and None in inference.
    """

    semantic: Tensor
    auxiliary: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor]:
        """The tensor that is decoded."""
        return (self.semantic,)


class SemanticTargets(NamedTuple):
    """Encoded and padded ground truth; stacked along a first axis for a batch.

    Attributes:
        semantic: category id + 1, int64 [H, W]; 0 for void and padding.
    """

    semantic: Tensor


@dataclass(frozen=True, slots=True)
class SemanticRepresentation:
    """Targets and losses; post-processing has no options. Defaults are those of mmsegmentation.

    Attributes:
        hard_pixel_fraction: Share of hardest pixels in the semantic loss.
        auxiliary_loss_weight: Weight of the loss of the auxiliary head.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    hard_pixel_fraction: PositiveFraction = 1.0
    auxiliary_loss_weight: NonNegative = 0.4

    def __post_init__(self) -> None:
        check_fields(self)

    def encode(self, truth: PanopticMap, labels: LabelSpace, padded_to: tuple[int, int]) -> SemanticTargets:
        """Encode one ground truth; crowds count as their category.

        Args:
            truth: ground truth of the input, without the padding to ``padded_to``.
            labels: label space.
            padded_to: height and width of the network's input.

        Raises:
            InvalidArgumentError: the ground truth has categories that the label space lacks or is larger than
                ``padded_to``.
        """
        check_categories(truth, labels)
        require_fits(truth.size, padded_to)
        return SemanticTargets(truth.pad(*padded_to).semantic(void=-1) + 1)

    def loss(self, outputs: SemanticOutputs, targets: SemanticTargets) -> dict[str, Tensor]:
        """Compare outputs, upsampled bilinearly, with stacked targets; the total is the sum of the values.

        Means are over all pixels of the batch; the loss of void pixels is 0.

        Returns:
            "semantic", and with auxiliary outputs "auxiliary".
        """
        losses = {"semantic": self._cross_entropy(outputs.semantic, targets)}
        if outputs.auxiliary is not None:
            losses["auxiliary"] = self.auxiliary_loss_weight * self._cross_entropy(outputs.auxiliary, targets)
        return losses

    def _cross_entropy(self, logits: Tensor, targets: SemanticTargets) -> Tensor:
        whole = F.interpolate(logits.float(), size=targets.semantic.shape[-2:], mode="bilinear", align_corners=False)
        weight = torch.ones_like(targets.semantic, dtype=torch.float32)
        return ohem_cross_entropy(whole, targets.semantic, weight, self.hard_pixel_fraction)

    def decode(
        self, outputs: SemanticOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace
    ) -> list[PanopticMap]:
        """Decode outputs into one map per image, at the image's own size.

        Args:
            outputs: of a batch; logits are upsampled to the padded input and resized to the image before the argmax.
            geometries: sizes of each image; all have the same padded size.
            labels: label space of the categories.

        Returns:
            Maps with one segment of score 1 for each category that some pixel has, by category.

        Raises:
            InvalidArgumentError: the number of geometries or of categories differs from that of the outputs.
        """
        if outputs.semantic.shape[1] != len(labels):
            raise InvalidArgumentError(
                f"expected logits of the {len(labels)} categories of {labels.name}, got {outputs.semantic.shape[1]}"
            )
        return [one_segment_per_category(category, labels) for category in self.decode_semantic(outputs, geometries)]

    def decode_semantic(self, outputs: SemanticOutputs, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """Return the category of each pixel, integers [H, W] of each image's own size; see :meth:`decode`."""
        return argmax_at_image_size(outputs.semantic, geometries, align_corners=False)


def one_segment_per_category(category: Tensor, labels: LabelSpace) -> PanopticMap:
    """Return the map of a semantic segmentation, int [H, W], with one segment for each category, of score 1."""
    present, ids = torch.unique(category.long(), return_inverse=True)
    return PanopticMap((ids + 1).int(), present, torch.ones(len(present), device=present.device), labels=labels)
