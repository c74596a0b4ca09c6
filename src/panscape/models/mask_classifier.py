"""What all networks that classify masks have in common: everything from their outputs on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from panscape.geometry import ImageGeometry, padded_size
from panscape.models.base import PanopticModel
from panscape.panoptic import PanopticMap
from panscape.representations.queries import (
    QUERY_ORACLES,
    QueryOutputs,
    QueryRepresentation,
    QueryTargets,
)


class MaskClassifier(PanopticModel):
    """A model whose outputs are queries with categories and masks.

    Attributes:
        representation: targets, losses and post-processing.
    """

    representation: QueryRepresentation

    def encode(self, truth: PanopticMap) -> QueryTargets:
        """See :meth:`QueryRepresentation.encode`."""
        return self.representation.encode(truth, self.labels, padded_size(truth.size, self.stride))

    def loss(self, outputs: QueryOutputs, targets: QueryTargets) -> dict[str, Tensor]:
        """See :meth:`QueryRepresentation.loss`."""
        return self.representation.loss(outputs, targets, self.labels)

    def decode(self, outputs: QueryOutputs, sizes: Sequence[tuple[int, int]]) -> list[PanopticMap]:
        """See :meth:`QueryRepresentation.decode`."""
        return self.representation.decode(outputs, [ImageGeometry.of(size) for size in sizes], self.labels)

    def postprocess(
        self, outputs: QueryOutputs, geometries: Sequence[ImageGeometry], *, scored: bool = False
    ) -> list[PanopticMap]:
        """See :meth:`PanopticModel.postprocess`; masks are resized before they are merged, as published."""
        return self.representation.decode(outputs, geometries, self.labels)

    def decode_semantic(self, outputs: QueryOutputs, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """See :meth:`PanopticModel.decode_semantic`."""
        return self.representation.decode_semantic(outputs, geometries)

    def visualize(self, outputs: QueryOutputs, size: tuple[int, int]) -> dict[str, Tensor]:
        """See :meth:`QueryRepresentation.visualize`."""
        category, masks = (part.detach().cpu() for part in outputs.tensors)
        return self.representation.visualize(QueryOutputs(category, masks), size, self.labels)

    @property
    def oracles(self) -> tuple[str, ...]:
        """The categories and the masks of queries."""
        return QUERY_ORACLES

    def decode_with_truth(self, outputs: QueryOutputs, truth: PanopticMap, parts: Collection[str]) -> PanopticMap:
        """See :meth:`PanopticModel.decode_with_truth`, and that of the representation."""
        self.require_oracles(parts)
        return self.representation.decode_with_truth(outputs, truth, parts, self.labels)
