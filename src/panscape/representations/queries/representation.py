"""Queries with categories and masks as a representation of segments: targets, losses and post-processing.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation" (MaskFormer), NeurIPS 2021, arXiv
2107.06278, by the rules of its published code; docs/models/maskformer.md lists them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from panscape.constraints import NonNegative, PositiveInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.representations.loss_stride import one_in_each_square
from panscape.representations.queries.decode import QueryDecoding, decode_queries
from panscape.representations.queries.encode import QueryTargets, encode_queries
from panscape.representations.queries.losses import query_losses
from panscape.representations.queries.match import QueryLossWeights, match_queries
from panscape.representations.queries.oracles import perfect_categories, perfect_masks
from panscape.representations.queries.panels import draw_panels
from panscape.representations.queries.semantic import semantic_categories
from panscape.representations.queries.types import QueryOutputs

STRIDE = 4
"""Of the masks: pixels of the padded input for each of theirs, along each axis."""


@dataclass(frozen=True, slots=True)
class QueryRepresentation:
    """Targets, losses and post-processing. Defaults are those of MaskFormer.

    Attributes:
        max_masks: Number of masks of an image that are kept; the smallest others are no targets.
        loss_weights: Weights of the terms of the loss, and of the cost of matching.
        no_object_weight: Weight of queries without a mask in the classification.
        first_stage_weight: Weight of the same losses on a first stage's outputs, if a network has them: gamma of
            PISR. That paper gives no value; 0.4 is that of object-contextual representations (OCR).
        loss_stride: Side of the squares of which one pixel each enters the losses of masks: 1 as published; 4 is the
            stride of the masks, which are then not upsampled. A divisor of 4.
        decoding: Post-processing options.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    max_masks: PositiveInt = 100
    loss_weights: QueryLossWeights = field(default_factory=QueryLossWeights)
    no_object_weight: UnitInterval = 0.1
    first_stage_weight: NonNegative = 0.4
    loss_stride: PositiveInt = 1
    decoding: QueryDecoding = field(default_factory=QueryDecoding)

    def __post_init__(self) -> None:
        check_fields(self)
        if STRIDE % self.loss_stride:
            raise InvalidArgumentError(f"expected a loss_stride of 1, 2 or 4, got {self.loss_stride}")

    def encode(self, truth: PanopticMap, labels: LabelSpace, padded_to: tuple[int, int]) -> QueryTargets:
        """Encode a ground truth; see :func:`panscape.representations.queries.encode.encode_queries`."""
        return encode_queries(truth, labels, padded_to, self.max_masks)

    def loss(self, outputs: QueryOutputs, targets: QueryTargets, labels: LabelSpace) -> dict[str, Tensor]:
        """Compare outputs with stacked targets; the total is the sum of the values.

        The queries of each decoder layer are matched anew. If processes share a batch, all must call this equally
        often: see :func:`panscape.nn.losses.global_normalizers`.

        Args:
            outputs: network outputs.
            targets: each with a first axis B.
            labels: label space of the targets.

        Returns:
            "category", "focal" and "dice"; with auxiliary outputs also "auxiliary_category" and so on, the sums over
            their layers; those of a first stage as "first_category" and so on. Each is finite and has a gradient path
            to its outputs, whatever the ground truth.

        Raises:
            InvalidArgumentError: outputs and targets are of different sizes, or outputs have another number of
                categories.
        """
        size, num_outcomes = tuple(targets.mask.shape[1:]), outputs.category_logits.shape[2]
        if len(outputs.mask_logits) != len(targets.mask) or self.padded_size(outputs) != size:
            raise InvalidArgumentError(
                f"expected mask logits of {len(targets.mask)} images of {size[0]}x{size[1]} pixels at stride {STRIDE}, "
                f"got {list(outputs.mask_logits.shape)}; encode the same crop that entered the network"
            )
        if num_outcomes != len(labels) + 1:
            raise InvalidArgumentError(
                f"expected {len(labels) + 1} category logits, those of {labels.name} and no object, got {num_outcomes}"
            )
        first = [] if outputs.first_stage is None else outputs.first_stage.layers
        layers = [*first, *outputs.layers]  # both stages together, to wait for the device once
        matched = match_queries(layers, targets, self.loss_weights)
        if self.loss_stride > 1:
            targets = targets._replace(mask=one_in_each_square(targets.mask, self.loss_stride))
        found = query_losses(layers, targets, matched, self.no_object_weight)
        weights = self.loss_weights
        weighted = {
            "category": weights.category * found.category,
            "focal": weights.focal * found.focal,
            "dice": weights.dice * found.dice,
        }
        losses = _by_layer({name: loss[len(first) :] for name, loss in weighted.items()})
        if first:
            of_first = _by_layer({name: loss[: len(first)] for name, loss in weighted.items()})
            losses |= {f"first_{name}": self.first_stage_weight * loss for name, loss in of_first.items()}
        return losses

    def decode(
        self, outputs: QueryOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace
    ) -> list[PanopticMap]:
        """Decode outputs into one map per image; see :func:`panscape.representations.queries.decode.decode_queries`."""
        padded = [geometry.padded_to(self.padded_size(outputs)) for geometry in geometries]
        return decode_queries(outputs, padded, labels, self.decoding)

    def decode_semantic(self, outputs: QueryOutputs, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """Return the semantic segmentation of each image, int64 [H, W], from all queries, whatever their score.

        See :func:`panscape.representations.queries.semantic.semantic_categories`.
        """
        if len(geometries) != len(outputs.category_logits):
            raise InvalidArgumentError(
                f"expected one size for each of the {len(outputs.category_logits)} images, got {len(geometries)}"
            )
        padded = [geometry.padded_to(self.padded_size(outputs)) for geometry in geometries]
        return [
            semantic_categories(*logits)
            for logits in zip(outputs.category_logits, outputs.mask_logits, padded, strict=True)
        ]

    def decode_with_truth(
        self, outputs: QueryOutputs, truth: PanopticMap, parts: Collection[str], labels: LabelSpace
    ) -> PanopticMap:
        """Decode the map of one image with parts of the outputs replaced by ground truth.

        Args:
            outputs: a batch of one.
            truth: ground truth of the image, at the size at which it entered the network, on any device.
            parts: some of :data:`QUERY_ORACLES`. Each mask of the truth is that of one query, matched as in training:
                "categories" gives it the mask's category, and "no object" to all other queries; "masks" gives it the
                mask. If empty, this is :meth:`decode`.
            labels: label space, which defines things and stuff.
        """
        device, padded_size = outputs.mask_logits.device, self.padded_size(outputs)
        encoded = encode_queries(truth.to("cpu"), labels, padded_size, max(1, len(truth)))
        targets = QueryTargets(*(part.to(device)[None] for part in encoded))
        matched = match_queries([(outputs.category_logits, outputs.mask_logits)], targets, self.loss_weights)
        matched = matched[0, 0].to(device)
        if "masks" in parts:
            outputs = outputs._replace(mask_logits=perfect_masks(outputs, targets, matched, padded_size))
        if "categories" in parts:
            outputs = outputs._replace(category_logits=perfect_categories(outputs.category_logits, targets, matched))
        return decode_queries(outputs, [ImageGeometry.of(truth.size, padded_size=padded_size)], labels, self.decoding)[
            0
        ]

    def visualize(self, outputs: QueryOutputs, size: tuple[int, int], labels: LabelSpace) -> dict[str, Tensor]:
        """Visualise outputs; see :func:`panscape.representations.queries.panels.draw_panels`."""
        return draw_panels(outputs, size, self.padded_size(outputs), labels)

    def padded_size(self, outputs: QueryOutputs) -> tuple[int, int]:
        """Return the height and width of the padded input of these outputs."""
        height, width = (STRIDE * side for side in outputs.mask_logits.shape[-2:])
        return height, width


def _by_layer(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return losses [L] of decoder layers as that of the last one and, if there are more, the sum of the others."""
    found = {name: loss[-1] for name, loss in losses.items()}
    if any(len(loss) > 1 for loss in losses.values()):
        found |= {f"auxiliary_{name}": loss[:-1].sum() for name, loss in losses.items()}
    return found
