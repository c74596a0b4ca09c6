"""Queries with categories and masks as a representation of segments: targets, losses and post-processing.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation" (MaskFormer), NeurIPS 2021, arXiv
2107.06278, by the rules of its published code; docs/models/maskformer.md lists them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from panscape.constraints import PositiveInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.representations.queries.encode import QueryTargets, encode_queries
from panscape.representations.queries.losses import query_losses
from panscape.representations.queries.match import QueryLossWeights, match_queries
from panscape.representations.queries.panels import draw_panels
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

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    max_masks: PositiveInt = 100
    loss_weights: QueryLossWeights = field(default_factory=QueryLossWeights)
    no_object_weight: UnitInterval = 0.1

    def __post_init__(self) -> None:
        check_fields(self)

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
            their layers. Each is finite and has a gradient path to its outputs, whatever the ground truth.

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
        auxiliary = zip(outputs.auxiliary_category_logits, outputs.auxiliary_mask_logits, strict=True)
        layers = [*auxiliary, (outputs.category_logits, outputs.mask_logits)]
        matched = match_queries(layers, targets, self.loss_weights)
        found = query_losses(layers, targets, matched, self.no_object_weight)
        weights = self.loss_weights
        weighted = {
            "category": weights.category * found.category,
            "focal": weights.focal * found.focal,
            "dice": weights.dice * found.dice,
        }
        losses = {name: loss[-1] for name, loss in weighted.items()}
        if len(layers) > 1:
            losses |= {f"auxiliary_{name}": loss[:-1].sum() for name, loss in weighted.items()}
        return losses

    def visualize(self, outputs: QueryOutputs, size: tuple[int, int], labels: LabelSpace) -> dict[str, Tensor]:
        """Visualise outputs; see :func:`panscape.representations.queries.panels.draw_panels`."""
        return draw_panels(outputs, size, self.padded_size(outputs), labels)

    def padded_size(self, outputs: QueryOutputs) -> tuple[int, int]:
        """Return the height and width of the padded input of these outputs."""
        height, width = (STRIDE * side for side in outputs.mask_logits.shape[-2:])
        return height, width
