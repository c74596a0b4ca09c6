"""Outputs of networks that classify masks: a fixed number of queries, each with a category and a mask."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class QueryOutputs(NamedTuple):
    """Network outputs for a padded input [H, W], by Q queries for C categories.

    Iterate over :attr:`tensors` for those of the last layer, as the others may be missing.

    Attributes:
        category_logits: of each query, float [B, Q, C + 1]; the last one is "no object".
        mask_logits: of each query, float [B, Q, h, w], at a fraction of the padded size, usually a quarter.
        auxiliary_category_logits: those of L earlier decoder layers, used only by losses, float [L, B, Q, C + 1];
            networks return them in training, and None in inference.
        auxiliary_mask_logits: likewise, float [L, B, Q, h, w].
        first_stage: outputs of a first stage, returned in training by networks with a second stage that builds on them;
            None in inference and for all other networks. It is never decoded into maps.
    """

    category_logits: Tensor
    mask_logits: Tensor
    auxiliary_category_logits: Tensor | None = None
    auxiliary_mask_logits: Tensor | None = None
    first_stage: QueryOutputs | None = None

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """The tensors that are decoded: category logits and mask logits."""
        return self.category_logits, self.mask_logits

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Category and mask logits of all decoder layers that are there, the last one last."""
        if self.auxiliary_category_logits is None or self.auxiliary_mask_logits is None:
            return [self.tensors]
        return [*zip(self.auxiliary_category_logits, self.auxiliary_mask_logits, strict=True), self.tensors]
