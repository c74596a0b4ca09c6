"""PISR in networks that represent objects as centres: features for a second stage from a first stage's outputs.

Panoptic, Instance, and Semantic Relations: A Relational Context Encoder to Enhance Panoptic Segmentation.

Shubhankar Borse, Hyojin Park, Hong Cai, Debasmit Das, Risheek Garrepalli, Fatih Porikli. CVPR 2022.

A network with relations predicts twice. Its heads are the first stage; relations compute new features from their
predictions; copies of the heads, with separate weights, predict the outputs from these features. In training, the first
stage has the same losses, times gamma (Equation 1, ``CenterRepresentation.first_stage_weight``).

The authors have published no code, and the paper leaves open:

- The features: "from the backbone". Here they are the input of the heads, at a quarter of the resolution, those of two
  decoders concatenated: semantics, centres and offsets have the same grid there.
- The "final prediction stage": copies of all heads, initialised with the weights of the first stage's heads.
- All internals: see the arguments of :class:`~panscape.nn.pisr.PISR` and of
  :class:`~panscape.nn.pisr_instances.CenterInstanceMaps`.
- Padding, which is excluded from all sums here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.nn.pisr import Relations
from panscape.nn.pisr_instances import CenterInstanceMaps, center_instance_maps
from panscape.representations.centers import CenterOutputs


class CenterRelations(nn.Module):
    """Relations between features and the predictions of a first stage.

    Args:
        part: options of the relations.
        channels: channels of the features.
        labels: label space, which defines things and stuff.
        instance_maps: options of the instance heatmaps; None for the defaults.
        stride: input pixels per cell of the features.
        semantic_channels: number of channels of the semantic branch, which come first, followed by those of the
            instance branch; None if both branches take all channels.

    Attributes:
        semantic_width: channels for the second stage's semantic head.
        instance_width: channels for its heads of centres and offsets.

    Raises:
        InvalidArgumentError: ``semantic_channels`` leaves one of the branches without channels.
    """

    is_thing: Tensor

    def __init__(
        self,
        part: Relations,
        channels: int,
        labels: LabelSpace,
        instance_maps: CenterInstanceMaps | None = None,
        *,
        stride: int = 4,
        semantic_channels: int | None = None,
    ) -> None:
        super().__init__()
        if semantic_channels is not None and not 0 < semantic_channels < channels:
            raise InvalidArgumentError(
                f"expected semantic_channels of 1 to {channels - 1}, fewer than all {channels}, got {semantic_channels}"
            )
        self.instance_maps = instance_maps or CenterInstanceMaps()
        self.num_instances = part.num_instances
        self.stride = stride
        self._semantic = channels if semantic_channels is None else semantic_channels
        self._others = 0 if semantic_channels is None else semantic_channels  # first channel of the instance branch
        related = part.build(channels, len(labels))
        if related.is_semantic_only and semantic_channels is not None:
            related = part.build(semantic_channels, len(labels))
        self.related = related
        num_added = related.out_channels - related.channels
        self.semantic_width = self._semantic + num_added
        self.instance_width = channels - self._others + (0 if related.is_semantic_only else num_added)
        self.register_buffer("is_thing", torch.tensor([c.is_thing for c in labels]), persistent=False)

    def forward(self, features: Tensor, first: CenterOutputs, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Relate features to the first stage's categories and objects.

        Args:
            features: [B, C, h, w].
            first: the first stage's outputs on the same grid, offsets in pixels of the input.
            valid: cells that belong to the image, see :func:`valid_cells`.

        Returns:
            Features for the second stage's semantic head, [B, ``semantic_width``, h, w], and for its heads of centres
            and offsets, [B, ``instance_width``, h, w].
        """
        semantic_prob = first.semantic.softmax(1)
        if self.related.is_semantic_only:
            none = semantic_prob[:, :0]
            related = self.related(features[:, : self._semantic], semantic_prob, none, valid)
            return related, features[:, self._others :]
        instances, _ = center_instance_maps(
            semantic_prob,
            first.center,
            first.offset / self.stride,
            self.is_thing,
            valid,
            self.num_instances,
            self.instance_maps,
        )
        related = self.related(features, semantic_prob, instances, valid)
        if self._others == 0:
            return related, related
        added = related[:, self.related.channels :]
        return torch.cat([related[:, : self._semantic], added], dim=1), related[:, self._others :]


def valid_cells(size: Sequence[int], features: Tensor, stride: int) -> Tensor | None:
    """Return which cells of padded features overlap the image.

    Args:
        size: height and width of the image before it was padded on the right and at the bottom.
        features: [B, C, h, w].
        stride: input pixels per cell.

    Returns:
        Bool [1, 1, h, w]; None if all do.
    """
    height, width = features.shape[-2:]
    rows, columns = (min((side + stride - 1) // stride, most) for side, most in zip(size, (height, width), strict=True))
    if (rows, columns) == (height, width):
        return None
    shown = torch.ones(1, 1, rows, columns, dtype=torch.bool, device=features.device)
    return F.pad(shown, (0, width - columns, 0, height - rows))


def refined_head(first: nn.Module, channels: int, width: int, build: Callable[[int], nn.Module]) -> nn.Module:
    """Return a head for the second stage: a copy of the first stage's, as it is now, if it takes as many channels.

    Args:
        first: the first stage's head.
        channels: input channels of the first stage's head.
        width: input channels of the second stage's head.
        build: returns a new head for a number of input channels.
    """
    return copy.deepcopy(first) if width == channels else build(width)
