"""Outputs of networks that classify masks: a fixed number of queries, each with a category and a mask."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class QueryOutputs(NamedTuple):
    """Network outputs for a padded input [H, W], by Q queries for C categories.

    Attributes:
        category_logits: of each query, float [B, Q, C + 1]; the last one is "no object".
        mask_logits: of each query, float [B, Q, h, w], at a fraction of the padded size, usually a quarter.
        auxiliary_category_logits: those of L earlier decoder layers, used only by losses, float [L, B, Q, C + 1]; L is
            0 for a network without auxiliary outputs.
        auxiliary_mask_logits: float [L, B, Q, h, w].
    """

    category_logits: Tensor
    mask_logits: Tensor
    auxiliary_category_logits: Tensor
    auxiliary_mask_logits: Tensor
