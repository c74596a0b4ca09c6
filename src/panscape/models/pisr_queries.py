"""PISR in networks that classify masks: mask features for a second stage from a first stage's queries.

Panoptic, Instance, and Semantic Relations: A Relational Context Encoder to Enhance Panoptic Segmentation.

Shubhankar Borse, Hyojin Park, Hong Cai, Debasmit Das, Risheek Garrepalli, Fatih Porikli. CVPR 2022.

The paper applies PISR to MaskFormer and to a panoptic UPerNet without saying where; its authors have published no code.
Our reading, beyond that of ``models/pisr.py``:

- The features are the mask features at a quarter of the resolution, of which masks are products with queries: the input
  of the heads, as in Panoptic-DeepLab. Their input instead would need a second 3x3 convolution to mask features, whose
  operations alone exceed what the paper counts for all of PISR (Table 4).
- The probabilities of categories are those of semantic segmentation by queries, divided by their sum.
- The objects are the queries with the most probable things, without NMS, as queries do not repeat each other: their
  masks times this probability. Queries of stuff are no objects.
- The second stage: a copy of the head for categories and of that for masks, on the same queries. No decoder layer runs
  again. Both stages are matched with the ground truth on their own.
- Losses of earlier decoder layers belong to the first stage.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.labels import LabelSpace
from panscape.nn.pisr import Relations

_SMALLEST_SUM = 1e-6  # of the scores of all categories at a place


class QueryRelations(nn.Module):
    """Relations between mask features and the queries of a first stage.

    Args:
        part: options of the relations.
        channels: channels of the mask features.
        labels: label space, which defines things and stuff.

    Attributes:
        related: the module; its ``out_channels`` are those of the second stage's mask features.
    """

    is_thing: Tensor

    def __init__(self, part: Relations, channels: int, labels: LabelSpace) -> None:
        super().__init__()
        self.related = part.build(channels, len(labels))
        self.num_instances = part.num_instances
        self.register_buffer("is_thing", torch.tensor([c.is_thing for c in labels]), persistent=False)

    def forward(
        self, mask_features: Tensor, category_logits: Tensor, mask_logits: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Relate mask features to the categories and objects of the first stage.

        Args:
            mask_features: [B, C, h, w].
            category_logits: of the queries, "no object" last, [B, Q, N + 1].
            mask_logits: of the queries, [B, Q, h, w].
            valid: cells that belong to the image, see :func:`~panscape.models.pisr.valid_cells`.

        Returns:
            Mask features of the second stage, [B, C', h, w].
        """
        category_prob, masks = category_logits.softmax(2)[..., :-1], mask_logits.sigmoid()
        # In half precision, the gradient of a small quotient overflows.
        scores = torch.einsum("bqn,bqhw->bnhw", category_prob, masks).float()
        semantic_prob = scores / scores.sum(1, keepdim=True).clamp_min(_SMALLEST_SUM)
        instances = self._instance_maps(category_prob, masks) if self.related.uses_instances else masks[:, :0]
        related: Tensor = self.related(mask_features, semantic_prob, instances, valid)
        return related

    def _instance_maps(self, category_prob: Tensor, masks: Tensor) -> Tensor:
        """Return the masks of the queries with the most probable things times this probability, [B, K, h, w]."""
        thing_prob = category_prob.masked_fill(~self.is_thing, 0).amax(2)
        found = min(self.num_instances, masks.shape[1])
        best = thing_prob.detach().topk(found, dim=1).indices
        maps = thing_prob.gather(1, best)[..., None, None] * masks.gather(
            1, best[..., None, None].expand(-1, -1, *masks.shape[2:])
        )
        return F.pad(maps, (0, 0, 0, 0, 0, self.num_instances - found))
