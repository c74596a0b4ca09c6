"""PISR in networks of two stages: features for a second pass of the heads from a first pass' semantics and detections.

Panoptic, Instance, and Semantic Relations: A Relational Context Encoder to Enhance Panoptic Segmentation.

Shubhankar Borse, Hyojin Park, Hong Cai, Debasmit Das, Risheek Garrepalli, Fatih Porikli. CVPR 2022.

The paper applies PISR to Panoptic FPN without saying where; its authors have published no code. Our reading, beyond
that of ``models/pisr.py``:

- The features are those that the semantic classifier reads: the sum of the levels at a quarter of the resolution.
- The probabilities of categories are those of the semantic head, in which all things are one category.
- The objects are the detections with the highest scores after NMS: their masks times their scores. Boxes and scores are
  constants, gradients flow into masks. In training they are the detections of inference, not the sampled regions; an
  image without any has the objects of the ground truth with a score of 1, as at the beginning of a training.
- Both branches gain in the paper, though the heads for boxes and masks do not read these features: a 1x1 convolution of
  the related features, reduced by averages, is added to the levels of the FPN. It starts at zero.
- The second pass: copies of the semantic classifier and of the heads for boxes and masks, on the same proposals. The
  losses of proposals are in the first pass only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from panscape.nn.pisr import Relations
from panscape.nn.pisr_instances import region_instance_maps


class RegionRelations(nn.Module):
    """Relations between the features of a semantic head and the results of a first pass.

    Args:
        part: options of the relations.
        channels: channels of the features.
        num_categories: channels of the semantic logits.
        width: channels of the levels of the FPN.

    Attributes:
        related: the module; its ``out_channels`` are those of the second pass' semantic features.
        added: maps its result to the levels; None if relations are for the semantic branch alone.
    """

    def __init__(self, part: Relations, channels: int, num_categories: int, width: int) -> None:
        super().__init__()
        self.related = part.build(channels, num_categories)
        self.num_instances = part.num_instances
        self.added = None
        if not self.related.is_semantic_only:
            self.added = nn.Conv2d(self.related.out_channels, width, 1)
            nn.init.zeros_(self.added.weight)
            nn.init.zeros_(cast(Tensor, self.added.bias))

    def forward(
        self,
        features: Tensor,
        semantic: Tensor,
        boxes: Tensor,
        score: Tensor,
        masks: Tensor,
        valid: Tensor | None,
        stride: int,
    ) -> Tensor:
        """Relate features to the first pass' categories and objects.

        Args:
            features: [B, C, h, w].
            semantic: category logits, [B, N, h, w].
            boxes: of the detections by descending score, xyxy in pixels of the input, [B, D, 4].
            score: of the detections, [B, D].
            masks: logits of the cells of each box, [B, D, M, M].
            valid: cells that belong to the image, see :func:`~panscape.models.pisr.valid_cells`.
            stride: input pixels per cell of the features.

        Returns:
            Features for the second pass' semantic classifier, [B, C', h, w].
        """
        num = self.num_instances if self.related.uses_instances else 0
        size = (features.shape[2], features.shape[3])
        instances = region_instance_maps(boxes[:, :num], masks[:, :num].sigmoid(), score[:, :num], size, stride)
        instances = F.pad(instances, (0, 0, 0, 0, 0, num - instances.shape[1]))
        related: Tensor = self.related(features, semantic.softmax(1), instances, valid)
        return related

    def levels(self, levels: Sequence[Tensor], related: Tensor) -> list[Tensor]:
        """Return the levels for the second pass, finest first: the given ones plus related features.

        Args:
            levels: [B, D, h_i, w_i]; the finest has the size of ``related``, each further one half of it.
            related: the result of :meth:`forward`.
        """
        if self.added is None:
            return list(levels)
        found, added = [], self.added(related)
        for i, level in enumerate(levels):
            added = F.avg_pool2d(added, 2) if i else added
            found.append(level + added)
        return found
